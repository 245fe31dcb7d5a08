"""Converts jobs and their images to the shapes of answers."""

from typing import Any

import orjson

from gateway.api.collections.serializers import moment
from gateway.api.context import dump_json
from gateway.api.jobs.schemas import (
    ItemErrorOut,
    ItemOut,
    JobAnswer,
    JobOut,
    WebhookBody,
    WebhookOut,
)
from gateway.jobs.service import OpenedItem
from gateway.jobs.views import JobView


def job_out(view: JobView) -> JobOut:
    """Shape a job."""
    job = view.record
    return JobOut(
        job_id=job.id,
        operation=job.operation,
        state=job.state,
        total=job.total,
        done=job.done,
        failed=job.failed,
        skipped=job.skipped,
        created_at=moment(job.created_at),
        started_at=_moment(job.started_at),
        finished_at=_moment(job.finished_at),
        expires_at=_moment(job.expires_at) if job.is_finished else None,
        images_per_second=view.images_per_second,
        seconds_left=view.seconds_left,
        detail=view.detail,
        collection=job.collection,
        webhook=None
        if job.webhook_url is None
        else WebhookOut(state=job.webhook_state, attempts=job.webhook_attempts),
    )


def job_answer(view: JobView, *, request_id: str) -> JobAnswer:
    """Shape a job as an answer."""
    return JobAnswer(**job_out(view).model_dump(), request_id=request_id)


def job_json(view: JobView) -> bytes:
    """Write a job as JSON, for events."""
    return dump_json(job_out(view))


def webhook_json(view: JobView) -> bytes:
    """Write a job as the body of its webhook, which says whose job it is."""
    return dump_json(WebhookBody(**job_out(view).model_dump(), tenant=view.record.tenant))


def item_out(opened: OpenedItem, *, with_result: bool = True) -> ItemOut:
    """Shape an image of a job."""
    item = opened.item
    more: dict[str, Any] = {}
    if with_result and opened.answer is not None:
        more["result"] = orjson.Fragment(opened.answer)
    if item.code is not None:
        more["error"] = ItemErrorOut(code=item.code, detail=item.detail or "")
    return ItemOut(index=item.index, name=item.name, status=item.status, **more)


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)

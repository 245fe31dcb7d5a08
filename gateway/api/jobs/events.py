"""Server-sent events of a job: the images as they end, and the job when it changes."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from gateway.api.auth import Permission
from gateway.api.call import Call
from gateway.api.context import dump_json
from gateway.api.jobs.routes import job_of
from gateway.api.jobs.schemas import EventOptions
from gateway.api.jobs.serializers import item_out, job_json
from gateway.api.jobs.sse import (
    CONTENT_TYPE,
    HEARTBEAT,
    Position,
    read_position,
    reconnect_after,
    write_event,
)
from gateway.api.shapes import NoOptions
from gateway.api.streams import STREAMS
from gateway.jobs.views import JobView
from gateway.records.job_types import JobRecord

HEARTBEAT_SECONDS: Final = 15.0
_AUTHORIZED_SECONDS: Final = 2.0
"""Interval at which the credentials of a caller that is still listening are checked again."""
_RECONNECT_MILLISECONDS: Final = 2000
_HEADERS: Final = {
    "Content-Type": CONTENT_TYPE,
    "Cache-Control": "no-store",
    # nginx passes each event on at once
    "X-Accel-Buffering": "no",
}


async def follow_job(call: Call[EventOptions, NoOptions]) -> web.StreamResponse:
    """Stream the events of a job until it ends, or until its caller may not see it any more."""
    job = await job_of(call)
    position = read_position(call.request.headers.get("Last-Event-ID"))
    if job.is_finished and position.ended and position.sequence >= job.sequence:
        # what browsers take as: do not connect again
        return web.Response(status=204)
    return await call.request.app[STREAMS].send(
        call.request, _events(call, job, position.sequence), headers=_HEADERS
    )


async def _events(
    call: Call[EventOptions, Any], job: JobRecord, after: int
) -> AsyncGenerator[bytes, None]:
    yield reconnect_after(_RECONNECT_MILLISECONDS)
    sent_at = authorized_at = time.monotonic()
    async with aclosing(call.services.jobs.follow(call.caller, job, after=after)) as changes:
        async for change in changes:
            if time.monotonic() - authorized_at >= _AUTHORIZED_SECONDS:
                # breaks off when the key was revoked or the token has expired
                await call.services.authorizer.authorize(call.request.headers, Permission.INFER)
                authorized_at = time.monotonic()
            if isinstance(change, JobView):
                ended = change.record.is_finished
                position = Position(change.record.sequence, ended=True) if ended else None
                yield write_event("job", job_json(change), position=position)
            elif change is not None:
                shape = item_out(change, with_result=call.options.results)
                position = Position(change.item.sequence or 0)
                yield write_event("item", dump_json(shape), position=position)
            elif time.monotonic() - sent_at >= HEARTBEAT_SECONDS:
                yield HEARTBEAT
            else:
                continue
            sent_at = time.monotonic()

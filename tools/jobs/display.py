"""Jobs and their results as tables, sentences and JSON."""

import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from aurum_client import Face, Job, JobItem
from rich.console import Console
from rich.table import Table

from tools.batch.types import printable

_WIDE: Final = 200
"""Columns of a table that goes into a file."""


def to_json(value: Any) -> Any:
    """Convert a result of the client to JSON, as the service writes it."""
    if is_dataclass(value):
        return {each.name: to_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    return value


def job_json(job: Job) -> str:
    """Write a job as JSON, without the id of the request."""
    return json.dumps({k: v for k, v in to_json(job).items() if k != "request_id"}, indent=2)


def jobs_table(jobs: Iterable[Job]) -> Table:
    """Make a table with a row for each job."""
    table = Table("job", "operation", "state", "images", "done", "failed", "created", "left")
    for job in jobs:
        table.add_row(
            job.job_id,
            job.operation if job.collection is None else f"enrol {job.collection}",
            job.state,
            f"{job.total:,}",
            f"{job.done:,}",
            f"{job.failed:,}" if job.failed else "",
            job.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            duration(job.seconds_left),
        )
    return table


def job_lines(job: Job) -> list[str]:
    """Describe a job in lines of `name: value`."""
    rows: list[tuple[str, str | None]] = [
        ("job", job.job_id),
        ("operation", job.operation),
        ("collection", job.collection),
        ("state", job.state),
        ("images", counts(job)),
        ("rate", None if job.images_per_second is None else f"{job.images_per_second:.1f}/s"),
        ("time left", duration(job.seconds_left) or None),
        ("created", _moment(job.created_at)),
        ("started", _moment(job.started_at)),
        ("finished", _moment(job.finished_at)),
        ("expires", _moment(job.expires_at)),
        ("webhook", None if job.webhook is None else _webhook(job)),
        ("note", job.detail),
    ]
    width = max(len(name) for name, value in rows if value is not None)
    return [f"{name:<{width}}  {printable(value)}" for name, value in rows if value is not None]


def counts(job: Job) -> str:
    """Count the images of a job: `9 of 12 done, 1 failed, 2 skipped`."""
    parts = [f"{job.done:,} of {job.total:,} done"]
    if job.failed:
        parts.append(f"{job.failed:,} failed")
    if job.skipped:
        parts.append(f"{job.skipped:,} skipped (not images)")
    return ", ".join(parts)


def item_table(items: Iterable[JobItem]) -> Table:
    """Make a table with a row for each image."""
    table = Table("#", "image", "status", "faces", "score", "error")
    for item in items:
        faces = () if item.result is None else item.result.faces
        scores = [face.score for face in faces if isinstance(face, Face) and face.score is not None]
        table.add_row(
            str(item.index),
            printable(item.name),
            item.status,
            str(len(faces)) if item.result is not None else "",
            ", ".join(f"{score:.2f}" for score in scores[:3]) + (" …" if len(scores) > 3 else ""),
            "" if item.error is None else printable(f"{item.error.code}: {item.error.detail}"),
        )
    return table


def print_table(table: Table) -> None:
    """Print a table to standard output; into a file or pipe it is not cut to 80 columns."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=_WIDE)
    console.print(table)


def duration(seconds: float | None) -> str:
    """Write a duration as `1:02:03`; empty if it is unknown."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _webhook(job: Job) -> str:
    webhook = job.webhook
    return "" if webhook is None else f"{webhook.state} after {webhook.attempts} attempts"

"""Rows of jobs and images: read, locked, ended. What the records of jobs and the queue share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, overload

from sqlalchemy import ColumnElement, and_, insert, literal_column, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records.job_tables import JOB_ITEMS, JOB_RESULTS, JOBS
from gateway.records.job_types import (
    IDLE_SECONDS,
    UNFINISHED_STATES,
    ItemOutcome,
    JobRecord,
    JobState,
    LeasedItem,
)

JOB_COLUMNS: Final = tuple(column for column in JOBS.c if column.name != "served")
"""Columns of a JobRecord; `served` is the queue's own."""
# written out, not bound: only then do SQLite and PostgreSQL use the partial indexes
NOT_ENDED: Final[ColumnElement[bool]] = JOB_ITEMS.c.state != literal_column("'ended'")
LEASED: Final[ColumnElement[bool]] = JOB_ITEMS.c.state == literal_column("'leased'")
WEBHOOK_DUE: Final[ColumnElement[bool]] = JOBS.c.webhook_state == literal_column("'due'")


@dataclass(frozen=True, slots=True)
class Ended:
    """An image that ends, with the code and sentence or the result of its outcome."""

    index: int
    outcome: ItemOutcome


def job_of(row: Mapping[Any, Any]) -> JobRecord:
    """Make a record of a row of `JOB_COLUMNS`."""
    return JobRecord(**row)


def job_row(job: JobRecord) -> dict[str, Any]:
    """Make a row of a new job."""
    row = {column.name: getattr(job, column.name) for column in JOB_COLUMNS}
    return row | {"options": dict(job.options), "served": 0}


async def lock_job(
    connection: AsyncConnection, job_id: str, *, tenant: str | None = None
) -> JobRecord | None:
    """Read a job, of a tenant if one is named, and hold its row until the transaction ends.

    Whoever locks several jobs in a transaction does so in the order of their ids.
    """
    query = select(*JOB_COLUMNS).where(JOBS.c.id == job_id).with_for_update()
    if tenant is not None:
        query = query.where(JOBS.c.tenant == tenant)
    row = (await connection.execute(query)).mappings().first()
    return None if row is None else job_of(row)


async def save_job(connection: AsyncConnection, job: JobRecord) -> None:
    """Write what changes in the life of a job that the transaction has locked."""
    query = (
        update(JOBS)
        .where(JOBS.c.id == job.id)
        .values(
            state=job.state,
            total=job.total,
            done=job.done,
            failed=job.failed,
            skipped=job.skipped,
            sequence=job.sequence,
            started_at=job.started_at,
            finished_at=job.finished_at,
            expires_at=job.expires_at,
            webhook_state=job.webhook_state,
            webhook_attempts=job.webhook_attempts,
            webhook_at=job.webhook_at,
        )
    )
    await connection.execute(query)


async def end_items(
    connection: AsyncConnection, job: JobRecord, ended: Sequence[Ended], *, at: float
) -> JobRecord:
    """Write results of images whose items are `ended`, with counts, sequence and state of the job.

    The transaction has locked the job. Returns the job as it is now.
    """
    if not ended:
        return job
    rows = []
    for sequence, each in enumerate(ended, job.sequence + 1):
        result = each.outcome.result
        rows.append(
            {
                "job_id": job.id,
                "index": each.index,
                "status": each.outcome.status,
                "code": each.outcome.code,
                "detail": storable(each.outcome.detail),
                "key_id": None if result is None else result.key_id,
                "nonce": None if result is None else result.nonce,
                "sealed": None if result is None else result.sealed,
                "sequence": sequence,
                "finished_at": at,
            }
        )
    await connection.execute(insert(JOB_RESULTS), rows)
    done = sum(each.outcome.status == "ok" for each in ended)
    job = replace(
        job,
        done=job.done + done,
        failed=job.failed + len(ended) - done,
        sequence=job.sequence + len(ended),
    )
    if job.state in UNFINISHED_STATES:
        job = finished(job, "done", at=at) if job.open == 0 else active(job, at=at)
    await save_job(connection, job)
    return job


def active(job: JobRecord, *, at: float) -> JobRecord:
    """Return a job to which something happens: from now on it may be idle for a while."""
    return replace(job, expires_at=at + IDLE_SECONDS)


def finished(job: JobRecord, state: JobState, *, at: float) -> JobRecord:
    """Return a job that ends now: kept for its retention, its webhook due if it has one."""
    due = job.webhook_url is not None
    return replace(
        job,
        state=state,
        finished_at=at,
        expires_at=at + job.retention_seconds,
        webhook_state="due" if due else "none",
        webhook_attempts=0,
        webhook_at=at if due else None,
    )


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: None) -> None: ...
def storable(text: str | None) -> str | None:
    """Return a text from outside as both databases take it: no NUL, no half of a character."""
    if text is None:
        return None
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def held(items: Sequence[LeasedItem]) -> ColumnElement[bool]:
    """The condition that an image of one job is one of these, and its lease the current one."""
    leases = or_(*(and_(JOB_ITEMS.c.index == i.index, JOB_ITEMS.c.lease == i.lease) for i in items))
    # the indexes alone, too: they are what the primary key can look up
    mine = JOB_ITEMS.c.index.in_([item.index for item in items])
    return and_(JOB_ITEMS.c.job_id == items[0].job.id, mine, leases, LEASED)

"""Removes jobs whose time is over, a few rows at a time: others write in between."""

from dataclasses import replace
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records.database import Database
from gateway.records.job_rows import finished, lock_job, save_job
from gateway.records.job_tables import JOB_ITEMS, JOBS
from gateway.records.job_types import UNFINISHED_STATES

_ROWS_AT_ONCE = 500
_KEPT_STATES: Final = ("done", "cancelled")


async def expire(database: Database, now: float) -> tuple[str, ...]:
    """Remove images and results of finished jobs and all of abandoned ones; end idle ones.

    Returns the ids of all these.
    """
    over = JOBS.c.expires_at <= now
    abandoned = select(JOBS.c.id).where(JOBS.c.state == "receiving", over)
    ended = select(JOBS.c.id).where(JOBS.c.state.in_(_KEPT_STATES), over)
    idle = select(JOBS.c.id).where(JOBS.c.state.in_(UNFINISHED_STATES), over)
    # ordered, so that PostgreSQL looks it up instead of reading images of other jobs
    first_item = (
        select(JOB_ITEMS.c.index)
        .where(JOB_ITEMS.c.job_id == JOBS.c.id)
        .order_by(JOB_ITEMS.c.index)
        .limit(1)
        .scalar_subquery()
    )
    # what a crash left of jobs that were expired before
    half_removed = select(JOBS.c.id).where(JOBS.c.state == "expired", first_item.is_not(None))
    async with database.read() as connection:
        left = sorted((await connection.execute(abandoned)).scalars())
        due = sorted((await connection.execute(ended)).scalars())
        waiting = sorted((await connection.execute(idle)).scalars())
        interrupted = sorted((await connection.execute(half_removed)).scalars())
    removed = [job_id for job_id in left if await remove_abandoned(database, job_id, now=now)]
    expired = [job_id for job_id in due if await _expire_job(database, job_id, now)]
    for job_id in (*expired, *interrupted):
        await _remove_items(database, job_id)
    cancelled = [job_id for job_id in waiting if await _cancel_idle(database, job_id, now)]
    return (*removed, *expired, *interrupted, *cancelled)


async def remove_abandoned(database: Database, job_id: str, *, now: float = 0.0) -> bool:
    """Remove a job whose images stopped coming; False if they came again."""
    async with database.write() as connection:
        job = await lock_job(connection, job_id)
        if job is None or job.state != "receiving" or not _is_over(job.expires_at, now):
            return False
        # from now on no image can be added, even if a crash follows
        await save_job(connection, replace(job, expires_at=0.0))
    await _remove_items(database, job_id)
    async with database.write() as connection:
        await connection.execute(delete(JOBS).where(JOBS.c.id == job_id))
    return True


async def forget(database: Database, before: float) -> int:
    """Remove the rows of jobs that expired before this time; returns their number."""
    mine = select(JOBS.c.id).where(JOBS.c.state == "expired", JOBS.c.expires_at < before)
    number = 0
    while True:
        async with database.write() as connection:
            part = list((await connection.execute(mine.limit(_ROWS_AT_ONCE))).scalars())
            for job_id in sorted(part):
                await _remove_row(connection, job_id)
        number += len(part)
        if len(part) < _ROWS_AT_ONCE:
            return number


async def _expire_job(database: Database, job_id: str, now: float) -> bool:
    """Mark a job, unless somebody has it repeated since."""
    async with database.write() as connection:
        job = await lock_job(connection, job_id)
        if job is None or job.state not in _KEPT_STATES or not _is_over(job.expires_at, now):
            return False
        await save_job(connection, replace(job, state="expired"))
    return True


async def _cancel_idle(database: Database, job_id: str, now: float) -> bool:
    """End a job on which nothing happened, unless something does since."""
    async with database.write() as connection:
        job = await lock_job(connection, job_id)
        if job is None or job.state not in UNFINISHED_STATES or not _is_over(job.expires_at, now):
            return False
        await save_job(connection, finished(job, "cancelled", at=now))
    return True


async def _remove_items(database: Database, job_id: str) -> None:
    """Remove images of a job that nobody can change any more; their results go with them."""
    some = select(JOB_ITEMS.c.index).where(JOB_ITEMS.c.job_id == job_id).limit(_ROWS_AT_ONCE)
    while True:
        async with database.write() as connection:
            indexes = list((await connection.execute(some)).scalars())
            mine = (JOB_ITEMS.c.job_id == job_id, JOB_ITEMS.c.index.in_(indexes))
            await connection.execute(delete(JOB_ITEMS).where(*mine))
        if len(indexes) < _ROWS_AT_ONCE:
            return


async def _remove_row(connection: AsyncConnection, job_id: str) -> None:
    await connection.execute(delete(JOBS).where(JOBS.c.id == job_id))


def _is_over(expires_at: float | None, now: float) -> bool:
    return expires_at is not None and expires_at <= now

"""Which images a worker gets: whose turn it is, and which of a job's images come first."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Select, case, func, insert, select, text, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records.job_rows import LEASED, NOT_ENDED, Ended, end_items, lock_job, save_job
from gateway.records.job_tables import JOB_ITEMS, JOB_TENANTS, JOBS
from gateway.records.job_types import ACTIVE_STATES, ItemOutcome, JobRecord, LeasedItem

_CLAIM_LOCK: Final = 0x6175_7275_6D02
"""Key of the PostgreSQL advisory lock under which claims take turns; SQLite has one writer."""
_ITEM_COLUMNS: Final = (
    JOB_ITEMS.c.index,
    JOB_ITEMS.c.name,
    JOB_ITEMS.c.sha256,
    JOB_ITEMS.c.object_key,
    JOB_ITEMS.c.state,
    JOB_ITEMS.c.lease,
    JOB_ITEMS.c.attempts,
    JOB_ITEMS.c.lost,
)
# a leased image that can be claimed was lost with its worker
_LOST: Final = JOB_ITEMS.c.lost + case((JOB_ITEMS.c.state == "leased", 1), else_=0)
_SUSPECT_AFTER: Final = 2
"""Of a job's images that so many workers did not survive, one at a time is claimed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a worker asks for."""

    worker: str
    operations: Collection[str]
    limit: int
    lease_seconds: float
    max_attempts: int


async def next_job(
    connection: AsyncConnection, wish: Wish, *, at: float, without: Collection[str] = ()
) -> str | None:
    """Return the job whose turn it is; None if no job has an image that can be claimed."""
    # a scalar subquery, not EXISTS: planned as one look into the index for each job
    first = (
        select(JOB_ITEMS.c.available_at)
        .where(JOB_ITEMS.c.job_id == JOBS.c.id, NOT_ENDED)
        .order_by(JOB_ITEMS.c.available_at)
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(JOBS.c.id)
        .select_from(JOBS.outerjoin(JOB_TENANTS, JOB_TENANTS.c.tenant == JOBS.c.tenant))
        .where(
            JOBS.c.state.in_(ACTIVE_STATES),
            JOBS.c.operation.in_(sorted(wish.operations)),
            first <= at,
        )
        .order_by(
            func.coalesce(JOB_TENANTS.c.served, 0),
            JOBS.c.tenant,
            JOBS.c.served,
            JOBS.c.created_at,
            JOBS.c.id,
        )
        .limit(1)
    )
    if without:
        query = query.where(JOBS.c.id.not_in(sorted(without)))
    job_id: str | None = await connection.scalar(query)
    return job_id


async def claim(connection: AsyncConnection, wish: Wish, *, at: float) -> tuple[LeasedItem, ...]:
    """Lease images of the job whose turn it is."""
    if connection.dialect.name == "postgresql":
        lock = text("SELECT pg_advisory_xact_lock(:key)")
        await connection.execute(lock, {"key": _CLAIM_LOCK})
    passed: set[str] = set()
    while True:
        job_id = await next_job(connection, wish, at=at, without=passed)
        if job_id is None:
            return ()
        passed.add(job_id)
        job = await lock_job(connection, job_id)
        # a client may have paused or cancelled it while this transaction waited for it
        if job is None or job.state not in ACTIVE_STATES:
            continue
        job, rows = await _choose(connection, job, wish, at=at)
        if rows:
            job = await _serve(connection, job, at=at)
            await _lease(connection, job, wish, rows, at=at)
            return tuple(_leased(job, row) for row in rows)


async def _choose(
    connection: AsyncConnection, job: JobRecord, wish: Wish, *, at: float
) -> tuple[JobRecord, Sequence[RowMapping]]:
    """Choose images of a locked job; ends those whose workers ended too often."""
    while True:
        due = await _rows(connection, _due(job, at).limit(wish.limit))
        hopeless = [row for row in due if _is_hopeless(row, wish)]
        if not hopeless:
            break
        job = await _give_up(connection, job, hopeless, at=at)
    if job.open == 0:
        return job, ()
    suspects = [row for row in due if _times_lost(row) > 0]
    for row in suspects:
        if _times_lost(row) < _SUSPECT_AFTER or not await _suspect_is_held(connection, job, at):
            # alone: should it end its worker again, it takes no other image along
            return job, [row]
    chosen = [row for row in due if _times_lost(row) == 0]
    if len(chosen) < wish.limit:
        chosen += await _rows(connection, _fresh(job).limit(wish.limit - len(chosen)))
    return job, sorted(chosen, key=lambda row: int(row["index"]))


def _due(job: JobRecord, at: float) -> Select[tuple[object, ...]]:
    """Images that were claimed before and may be claimed again, longest due first."""
    mine = (JOB_ITEMS.c.job_id == job.id, NOT_ENDED)
    in_time = (JOB_ITEMS.c.available_at > 0, JOB_ITEMS.c.available_at <= at)
    return (
        select(*_ITEM_COLUMNS)
        .where(*mine, *in_time)
        .order_by(JOB_ITEMS.c.available_at, JOB_ITEMS.c.index)
    )


def _fresh(job: JobRecord) -> Select[tuple[object, ...]]:
    """Images that nobody has claimed yet, by index."""
    # not "= 0": PostgreSQL would read the primary key, with all that have ended
    return (
        select(*_ITEM_COLUMNS)
        .where(JOB_ITEMS.c.job_id == job.id, NOT_ENDED, JOB_ITEMS.c.available_at <= 0)
        .order_by(JOB_ITEMS.c.available_at, JOB_ITEMS.c.index)
    )


async def _rows(connection: AsyncConnection, query: Select[tuple[object, ...]]) -> list[RowMapping]:
    return list((await connection.execute(query)).mappings().all())


def _times_lost(row: RowMapping) -> int:
    lost: int = row["lost"]
    return lost + 1 if row["state"] == "leased" else lost


def _is_hopeless(row: RowMapping, wish: Wish) -> bool:
    return bool(row["state"] == "leased" and row["attempts"] >= wish.max_attempts)


async def _suspect_is_held(connection: AsyncConnection, job: JobRecord, at: float) -> bool:
    """Whether a worker holds an image of the job that other workers did not survive."""
    query = (
        select(JOB_ITEMS.c.index)
        .where(
            JOB_ITEMS.c.job_id == job.id,
            LEASED,
            JOB_ITEMS.c.available_at > at,
            JOB_ITEMS.c.lost >= _SUSPECT_AFTER,
        )
        .limit(1)
    )
    return await connection.scalar(query) is not None


async def _give_up(
    connection: AsyncConnection, job: JobRecord, rows: Sequence[RowMapping], *, at: float
) -> JobRecord:
    """End images whose workers ended too often."""
    mine = (JOB_ITEMS.c.job_id == job.id, JOB_ITEMS.c.index.in_([row["index"] for row in rows]))
    values = {"state": "ended", "worker": None, "lost": _LOST}
    await connection.execute(update(JOB_ITEMS).where(*mine).values(values))
    return await end_items(connection, job, [_hopeless_end(row) for row in rows], at=at)


def _hopeless_end(row: RowMapping) -> Ended:
    number = _times_lost(row)
    times = "once" if number == 1 else f"{number} times"
    detail = f"the worker ended {times} while it worked on this image"
    return Ended(row["index"], ItemOutcome("error", None, "internal", detail))


async def _serve(connection: AsyncConnection, job: JobRecord, *, at: float) -> JobRecord:
    """Write whose turn this was: the next ones are those of the others."""
    latest = await connection.scalar(select(func.max(JOB_TENANTS.c.served)))
    turn = 1 if latest is None else latest + 1
    mine = JOB_TENANTS.c.tenant == job.tenant
    moved = await connection.execute(update(JOB_TENANTS).where(mine).values(served=turn))
    if moved.rowcount == 0:
        await connection.execute(insert(JOB_TENANTS).values(tenant=job.tenant, served=turn))
    await connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(served=turn))
    if job.state == "queued":
        started = at if job.started_at is None else job.started_at
        job = replace(job, state="running", started_at=started)
        await save_job(connection, job)
    return job


async def _lease(
    connection: AsyncConnection,
    job: JobRecord,
    wish: Wish,
    rows: Sequence[RowMapping],
    *,
    at: float,
) -> None:
    mine = (JOB_ITEMS.c.job_id == job.id, JOB_ITEMS.c.index.in_([row["index"] for row in rows]))
    values = {
        "lost": _LOST,
        "state": "leased",
        "available_at": at + wish.lease_seconds,
        "lease": JOB_ITEMS.c.lease + 1,
        "worker": wish.worker,
        "attempts": JOB_ITEMS.c.attempts + 1,
    }
    await connection.execute(update(JOB_ITEMS).where(*mine).values(values))


def _leased(job: JobRecord, row: RowMapping) -> LeasedItem:
    return LeasedItem(
        job=job,
        index=row["index"],
        name=row["name"],
        sha256=row["sha256"],
        object_key=row["object_key"],
        lease=row["lease"] + 1,
        attempts=row["attempts"] + 1,
        lost=_times_lost(row),
    )

"""Images of a job with their results: by index, or in the order in which they ended."""

from typing import Any, Final

from sqlalchemy import Select, and_, select
from sqlalchemy.engine import RowMapping

from gateway.records.database import Database
from gateway.records.job_rows import NOT_ENDED
from gateway.records.job_tables import JOB_ITEMS, JOB_RESULTS, JOBS
from gateway.records.job_types import ItemResult, ItemStatus, SealedResult

_RESULT_COLUMNS: Final = (
    JOB_ITEMS.c.index,
    JOB_ITEMS.c.name,
    JOB_ITEMS.c.attempts,
    JOB_ITEMS.c.code.label("last_code"),
    JOB_ITEMS.c.detail.label("last_detail"),
    JOB_RESULTS.c.status,
    JOB_RESULTS.c.code,
    JOB_RESULTS.c.detail,
    JOB_RESULTS.c.key_id,
    JOB_RESULTS.c.nonce,
    JOB_RESULTS.c.sealed,
    JOB_RESULTS.c.sequence,
    JOB_RESULTS.c.finished_at,
    JOBS.c.state.label("job_state"),
)
_ITEMS_WITH_RESULTS: Final = JOB_ITEMS.join(JOBS, JOBS.c.id == JOB_ITEMS.c.job_id).outerjoin(
    JOB_RESULTS,
    and_(
        JOB_RESULTS.c.job_id == JOB_ITEMS.c.job_id,
        JOB_RESULTS.c.index == JOB_ITEMS.c.index,
    ),
)
RESULTS_WITH_ITEMS: Final = JOB_RESULTS.join(
    JOB_ITEMS,
    and_(
        JOB_ITEMS.c.job_id == JOB_RESULTS.c.job_id,
        JOB_ITEMS.c.index == JOB_RESULTS.c.index,
    ),
).join(JOBS, JOBS.c.id == JOB_RESULTS.c.job_id)
"""Results with their images; begins with the results, of which there may be few."""


async def page(
    database: Database, job_id: str, *, limit: int, after_index: int, status: ItemStatus | None
) -> tuple[ItemResult, ...]:
    """Return images by index behind `after_index`."""
    query = select(*_RESULT_COLUMNS)
    if status in ("ok", "error"):
        query = query.select_from(RESULTS_WITH_ITEMS).where(
            JOB_RESULTS.c.job_id == job_id,
            JOB_RESULTS.c.status == status,
            JOB_RESULTS.c.index > after_index,
        )
        return await _read(database, query.order_by(JOB_RESULTS.c.index).limit(limit))
    query = query.select_from(_ITEMS_WITH_RESULTS).where(
        JOB_ITEMS.c.job_id == job_id, JOB_ITEMS.c.index > after_index
    )
    if status is not None:
        cancelled = JOBS.c.state == "cancelled"
        query = query.where(NOT_ENDED, cancelled if status == "cancelled" else ~cancelled)
    return await _read(database, query.order_by(JOB_ITEMS.c.index).limit(limit))


async def events(
    database: Database, job_id: str, *, limit: int, after_sequence: int
) -> tuple[ItemResult, ...]:
    """Return ended images by sequence behind `after_sequence`."""
    query = (
        select(*_RESULT_COLUMNS)
        .select_from(RESULTS_WITH_ITEMS)
        .where(JOB_RESULTS.c.job_id == job_id, JOB_RESULTS.c.sequence > after_sequence)
        .order_by(JOB_RESULTS.c.sequence)
    )
    return await _read(database, query.limit(limit))


async def _read(database: Database, query: Select[Any]) -> tuple[ItemResult, ...]:
    async with database.read() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return tuple(_result(row) for row in rows)


def _result(row: RowMapping) -> ItemResult:
    ended = row["status"] is not None
    sealed = None
    if row["key_id"] is not None:
        sealed = SealedResult(row["key_id"], row["nonce"], row["sealed"])
    return ItemResult(
        index=row["index"],
        name=row["name"],
        status=_status(row["status"], row["job_state"]),
        code=row["code"] if ended else row["last_code"],
        detail=row["detail"] if ended else row["last_detail"],
        result=sealed,
        sequence=row["sequence"],
        finished_at=row["finished_at"],
        attempts=row["attempts"],
    )


def _status(ended: str | None, job_state: str) -> ItemStatus:
    if ended is not None:
        return "ok" if ended == "ok" else "error"
    return "cancelled" if job_state == "cancelled" else "queued"

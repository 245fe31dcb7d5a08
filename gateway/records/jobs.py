"""Jobs of many images as clients see them: made, listed, controlled."""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import and_, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import ConflictError, NotFoundError
from gateway.records import clock, job_expiry, job_results
from gateway.records.database import Database
from gateway.records.idempotency import keep
from gateway.records.job_results import RESULTS_WITH_ITEMS
from gateway.records.job_rows import (
    JOB_COLUMNS,
    LEASED,
    NOT_ENDED,
    Ended,
    active,
    end_items,
    finished,
    job_of,
    job_row,
    lock_job,
    save_job,
    storable,
)
from gateway.records.job_tables import JOB_ITEMS, JOB_RESULTS, JOBS
from gateway.records.job_types import (
    ACTIVE_STATES,
    RECEIVING_SECONDS,
    ItemOutcome,
    ItemResult,
    ItemStatus,
    JobDepth,
    JobRecord,
    JobState,
    NewItem,
)
from gateway.records.types import KeptAnswer

Change = Callable[[AsyncConnection, JobRecord], Awaitable[JobRecord]]
CANCELLED: Final = "the job was cancelled while its images arrived"
_ITEMS_AT_ONCE = 500
_IDS_AT_ONCE = 500


class JobRecords:
    """Jobs by tenant, with the results of their images.

    Every method raises StorageUnavailableError where the database cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, job: JobRecord) -> None:
        """Write a job in the state `receiving`; it is abandoned an hour after its last image."""
        new = replace(job, state="receiving", expires_at=clock.now() + RECEIVING_SECONDS)
        async with self._database.write() as connection:
            await connection.execute(insert(JOBS), [job_row(new)])

    async def add_items(self, job_id: str, items: Sequence[NewItem]) -> None:
        """Add images to a job that is being received, in short transactions.

        Raises NotFoundError without the job (it was abandoned, say), ConflictError if it is no
        longer being received, IntegrityError for an index that it has.
        """
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            part = items[start : start + _ITEMS_AT_ONCE]
            at = clock.now()
            async with self._database.write() as connection:
                job = await _receiving(connection, job_id)
                await connection.execute(insert(JOB_ITEMS), [_item_row(job_id, i) for i in part])
                job = replace(job, total=job.total + len(part), expires_at=at + RECEIVING_SECONDS)
                await save_job(connection, job)
                refused = [
                    Ended(item.index, ItemOutcome("error", None, item.code, item.detail))
                    for item in part
                    if item.code is not None
                ]
                await end_items(connection, job, refused, at=at)

    async def submit(
        self,
        job_id: str,
        *,
        skipped: int = 0,
        kept: Callable[[JobRecord], KeptAnswer] | None = None,
        change: Change | None = None,
    ) -> JobRecord:
        """Let workers begin; a job without an open image is done at once. Returns the job.

        kept: makes the answer of the upload, which is kept in the same transaction. change: what
        is done before workers see the job, as `erase_upload`; returns it as it is then. Raises
        NotFoundError without the job, ConflictError if it was submitted before, and as
        `idempotency.keep`.
        """
        async with self._database.write() as connection:
            job = await _receiving(connection, job_id)
            job = active(replace(job, state="queued", skipped=skipped), at=clock.now())
            if job.open == 0:
                job = finished(job, "done", at=clock.now())
            await save_job(connection, job)
            if change is not None:
                job = await change(connection, job)
            if kept is not None:
                await keep(connection, kept(job))
        return job

    async def discard(self, job_id: str) -> bool:
        """Remove a job that is being received, with its images.

        False if it was submitted: it stays, and needs its objects. One that was cancelled
        meanwhile stays without them.
        """
        async with self._database.write() as connection:
            job = await lock_job(connection, job_id)
            if job is None or job.state != "receiving":
                return job is None or job.state == "cancelled"
            # from now on it is abandoned, even if a crash follows
            await save_job(connection, replace(job, expires_at=0.0))
        await job_expiry.remove_abandoned(self._database, job_id)
        return True

    async def get(self, tenant: str, job_id: str) -> JobRecord | None:
        """Return a job of a tenant, in any state."""
        query = select(*JOB_COLUMNS).where(JOBS.c.id == job_id, JOBS.c.tenant == tenant)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else job_of(row)

    async def needing_objects(self, job_ids: Collection[str]) -> set[str]:
        """Return which of these jobs may still need their objects.

        Those that are unknown, cancelled, expired, or done without an error do not.
        """
        asked, found = sorted(job_ids), set[str]()
        needing = or_(
            JOBS.c.state.in_(("receiving", "queued", "running", "paused")),
            and_(JOBS.c.state == "done", JOBS.c.failed > 0),
        )
        async with self._database.read() as connection:
            for start in range(0, len(asked), _IDS_AT_ONCE):
                part = asked[start : start + _IDS_AT_ONCE]
                query = select(JOBS.c.id).where(JOBS.c.id.in_(part), needing)
                found.update((await connection.execute(query)).scalars())
        return found

    async def page(
        self,
        tenant: str,
        *,
        limit: int,
        states: Collection[JobState] | None = None,
        collections: Collection[str] | None = None,
        after: tuple[float, str] | None = None,
    ) -> tuple[JobRecord, ...]:
        """Return jobs of a tenant, newest first, behind (created_at, id) of the last one seen.

        Jobs that are being received are left out unless `states` names that state; those that
        enrol into other collections than `collections`, if that is given.
        """
        query = select(*JOB_COLUMNS).where(JOBS.c.tenant == tenant)
        if states is None:
            query = query.where(JOBS.c.state != "receiving")
        else:
            query = query.where(JOBS.c.state.in_(sorted(states)))
        if collections is not None:
            name = JOBS.c.collection
            query = query.where(or_(name.is_(None), name.in_(sorted(collections))))
        if after is not None:
            query = query.where(tuple_(JOBS.c.created_at, JOBS.c.id) < tuple_(*after))
        query = query.order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc()).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(job_of(row) for row in rows)

    async def results(
        self,
        job_id: str,
        *,
        limit: int,
        after_index: int = -1,
        status: ItemStatus | None = None,
    ) -> tuple[ItemResult, ...]:
        """Return images by index, ended or not; of one status if `status` is given."""
        return await job_results.page(
            self._database, job_id, limit=limit, after_index=after_index, status=status
        )

    async def events(
        self, job_id: str, *, limit: int, after_sequence: int = 0
    ) -> tuple[ItemResult, ...]:
        """Return images that have ended, in the order in which they did.

        A retry removes the events of the errors that it repeats; new ones have higher numbers.
        """
        return await job_results.events(
            self._database, job_id, limit=limit, after_sequence=after_sequence
        )

    async def cancel(self, tenant: str, job_id: str, *, change: Change | None = None) -> JobRecord:
        """End a job; images that have not ended never will, whoever holds them.

        One that is being received takes no more images from now on. change: as of `submit`, for
        such a job.
        A job that was cancelled before is returned as it is. Raises NotFoundError without the
        job, ConflictError if it is done or expired.
        """
        async with self._database.write() as connection:
            job = await _known(connection, tenant, job_id)
            if job.state == "cancelled":
                return job
            if job.is_finished:
                raise ConflictError(f"the job is {job.state}: there is nothing left to cancel")
            was_arriving = job.state == "receiving"
            job = finished(job, "cancelled", at=clock.now())
            await save_job(connection, job)
            if was_arriving and change is not None:
                job = await change(connection, job)
        return job

    async def pause(self, tenant: str, job_id: str) -> JobRecord:
        """Let no worker claim further images; those that are held still end.

        A job that is paused is returned as it is. Raises NotFoundError without the job,
        ConflictError if it has finished or is being received.
        """
        async with self._database.write() as connection:
            job = await _submitted(connection, tenant, job_id)
            if job.is_finished:
                raise ConflictError(f"the job is {job.state}: there is nothing left to pause")
            if job.state != "paused":
                job = active(replace(job, state="paused"), at=clock.now())
                await save_job(connection, job)
        return job

    async def resume(self, tenant: str, job_id: str) -> JobRecord:
        """Continue a paused job; one that is queued or running is returned as it is.

        Raises NotFoundError without the job, ConflictError if it has finished or is being received.
        """
        async with self._database.write() as connection:
            job = await _submitted(connection, tenant, job_id)
            if job.is_finished:
                raise ConflictError(f"the job is {job.state}: only a paused job can be resumed")
            if job.state == "paused":
                state: JobState = "queued" if job.started_at is None else "running"
                job = active(replace(job, state=state), at=clock.now())
                await save_job(connection, job)
        return job

    async def retry_failed(self, tenant: str, job_id: str) -> JobRecord:
        """Queue the images that ended with an error again, except those refused on receipt.

        A job that is paused stays so. Raises NotFoundError without the job, ConflictError if it
        was cancelled, has expired or is being received, or if there is nothing to repeat.
        """
        async with self._database.write() as connection:
            job = await _submitted(connection, tenant, job_id)
            if job.state in ("cancelled", "expired"):
                raise ConflictError(f"the job is {job.state}: submit its images as a new job")
            number = await _requeue_failed(connection, job_id)
            if number == 0:
                raise ConflictError("the job has no failed image that could be repeated")
            job = replace(job, failed=job.failed - number)
            if job.state == "done":
                job = replace(
                    job,
                    state="queued",
                    finished_at=None,
                    webhook_state="none",
                    webhook_at=None,
                )
            job = active(job, at=clock.now())
            await save_job(connection, job)
        return job

    async def expire(self, now: float) -> tuple[str, ...]:
        """Remove images and results of jobs whose time is over; abandoned jobs entirely.

        Cancels jobs on which nothing happened for `IDLE_SECONDS`. Returns the ids of all these
        jobs: their objects must go.
        """
        return await job_expiry.expire(self._database, now)

    async def forget(self, before: float) -> int:
        """Remove expired jobs whose time was over before this time; returns their number."""
        return await job_expiry.forget(self._database, before)

    async def depth(self) -> JobDepth:
        """Count what is waiting, of all tenants."""
        at = clock.now()
        by_state = select(JOBS.c.state, func.count()).group_by(JOBS.c.state)
        active = select(
            JOBS.c.id, JOBS.c.created_at, JOBS.c.total - JOBS.c.done - JOBS.c.failed
        ).where(JOBS.c.state.in_(ACTIVE_STATES))
        # grouped here: SQLite would group all images by their primary key. That each leased one
        # has a worker makes it use the index
        leased = select(JOB_ITEMS.c.job_id).where(
            LEASED, JOB_ITEMS.c.worker > "", JOB_ITEMS.c.available_at > at
        )
        async with self._database.read() as connection:
            jobs = {state: number for state, number in await connection.execute(by_state)}
            held = Counter((await connection.execute(leased)).scalars())
            rows = (await connection.execute(active)).all()
        waiting = {job_id: number - held[job_id] for job_id, _, number in rows}
        oldest = min((created for job_id, created, _ in rows if waiting[job_id] > 0), default=None)
        return JobDepth(
            waiting=sum(waiting.values()),
            leased=sum(held.values()),
            oldest_seconds=None if oldest is None else max(0.0, at - oldest),
            jobs=jobs,
        )


async def _receiving(connection: AsyncConnection, job_id: str) -> JobRecord:
    """Lock a job that is being received."""
    job = await lock_job(connection, job_id)
    if job is None or job.expires_at == 0.0:
        raise NotFoundError("there is no such job")
    if job.state == "cancelled":
        raise ConflictError(CANCELLED)
    if job.state != "receiving":
        raise ConflictError("the job was submitted before")
    return job


async def _known(connection: AsyncConnection, tenant: str, job_id: str) -> JobRecord:
    """Lock a job that clients know."""
    job = await lock_job(connection, job_id, tenant=tenant)
    # one that is abandoned is being removed
    if job is None or (job.state == "receiving" and job.expires_at == 0.0):
        raise NotFoundError("there is no such job")
    return job


async def _submitted(connection: AsyncConnection, tenant: str, job_id: str) -> JobRecord:
    """Lock a job whose images are all there; ConflictError if they are still arriving."""
    job = await _known(connection, tenant, job_id)
    if job.state == "receiving":
        raise ConflictError("the images of the job are still arriving; it can only be cancelled")
    return job


async def _requeue_failed(connection: AsyncConnection, job_id: str) -> int:
    """Queue all failed images that have an object; returns their number."""
    failed = (
        select(JOB_RESULTS.c.index)
        .select_from(RESULTS_WITH_ITEMS)
        .where(
            JOB_RESULTS.c.job_id == job_id,
            JOB_RESULTS.c.status == "error",
            JOB_ITEMS.c.object_key.is_not(None),
        )
    )
    fresh = {"state": "queued", "available_at": 0.0, "attempts": 0, "lost": 0, "worker": None}
    mine = (JOB_ITEMS.c.job_id == job_id, JOB_ITEMS.c.index.in_(failed))
    queued = await connection.execute(update(JOB_ITEMS).where(*mine).values(fresh))
    gone = (JOB_RESULTS.c.job_id == job_id, JOB_RESULTS.c.status == "error")
    waiting = select(JOB_ITEMS.c.index).where(JOB_ITEMS.c.job_id == job_id, NOT_ENDED)
    await connection.execute(delete(JOB_RESULTS).where(*gone, JOB_RESULTS.c.index.in_(waiting)))
    return queued.rowcount


def _item_row(job_id: str, item: NewItem) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "index": item.index,
        "name": storable(item.name),
        "sha256": item.sha256,
        "object_key": item.object_key,
        "size": item.size,
        "state": "queued" if item.code is None else "ended",
        "available_at": 0.0,
        "lease": 0,
        "worker": None,
        "attempts": 0,
        "lost": 0,
        "code": item.code,
        "detail": storable(item.detail),
    }

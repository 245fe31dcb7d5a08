"""The queue of images: workers claim them with leases, and only a lease's holder ends one."""

import asyncio
import time
from collections.abc import Collection, Sequence

from sqlalchemy import delete, insert, not_, select, update
from sqlalchemy.engine import RowMapping

from gateway.concurrency import BackgroundTasks
from gateway.records import clock, job_claims
from gateway.records.database import Database
from gateway.records.driver_errors import is_refused
from gateway.records.job_rows import (
    JOB_COLUMNS,
    LEASED,
    WEBHOOK_DUE,
    Ended,
    end_items,
    held,
    job_of,
    lock_job,
    storable,
)
from gateway.records.job_tables import JOB_ITEMS, JOB_WORKERS, JOBS
from gateway.records.job_types import (
    MAX_ATTEMPTS,
    UNFINISHED_STATES,
    ItemOutcome,
    JobRecord,
    LeasedItem,
    WorkerRecord,
)

_ENDED_AT_ONCE = 64
_LONGEST_REST_SECONDS = 0.05
_FORGOTTEN_SECONDS = 86_400.0
_REFUSED_END = ItemOutcome("error", code="internal", detail="the result could not be stored")
_End = tuple[LeasedItem, ItemOutcome, "asyncio.Future[bool]"]


class ResultRefusedError(Exception):
    """The database does not store the outcome of an image, which ended with an error instead."""


class JobQueue:
    """Images that wait for a worker, and webhooks that wait for delivery.

    Any number of processes may use it at once. Every method raises StorageUnavailableError where
    the database cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ends: list[_End] = []
        self._tasks = BackgroundTasks()
        self._is_writing = False
        self._rests_until = 0.0

    async def claim(
        self,
        worker: str,
        *,
        operations: Collection[str],
        limit: int,
        lease_seconds: float,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> tuple[LeasedItem, ...]:
        """Take up to `limit` images of one job; empty if nothing can be claimed now.

        Serves the tenant that was served longest ago, and of its jobs the one that was served
        longest ago. Images whose worker ended come first, one alone; then those whose delay is
        over; then the others by index. An image whose worker ended and that was claimed
        `max_attempts` times ends as an error instead.
        """
        wish = job_claims.Wish(worker, operations, limit, lease_seconds, max_attempts)
        # a worker that finds nothing, as most do most of the time, keeps nobody from writing
        async with self._database.read() as connection:
            if await job_claims.next_job(connection, wish, at=clock.now()) is None:
                return ()
        async with self._database.write() as connection:
            return await job_claims.claim(connection, wish, at=clock.now())

    async def renew(
        self, worker: str, items: Sequence[LeasedItem], lease_seconds: float
    ) -> set[tuple[str, int]]:
        """Extend leases; returns (job id, index) of those still held.

        An image is no longer held if another worker has claimed it since, it has ended, or its
        job was cancelled.
        """
        if not items:
            return set()
        renewed: set[tuple[str, int]] = set()
        async with self._database.write() as connection:
            for job_id, part in _by_job(items):
                job = await lock_job(connection, job_id)
                if job is None or job.state not in UNFINISHED_STATES:
                    continue
                query = update(JOB_ITEMS).where(held(part), JOB_ITEMS.c.worker == worker)
                query = query.values(available_at=clock.now() + lease_seconds)
                query = query.returning(JOB_ITEMS.c.index)
                indexes = (await connection.execute(query)).scalars()
                renewed.update((job_id, index) for index in indexes)
        return renewed

    async def finish(self, item: LeasedItem, outcome: ItemOutcome) -> bool:
        """End an image: its result, the job's counts, sequence and state in one transaction.

        False if the lease is not the current one or the job was cancelled: the result is dropped.
        Raises ResultRefusedError if the outcome cannot be stored. Ends that come while another is
        being written are written together, which a disk allows only so many times a second.
        """
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._ends.append((item, outcome, told))
        if not self._is_writing:
            self._is_writing = True
            # a task of its own: no caller that is cancelled takes the others' ends along
            self._tasks.detach("job-ends", self._write_ends())
        return await told

    async def _write_ends(self) -> None:
        try:
            while self._ends:
                await asyncio.sleep(self._rests_until - time.monotonic())
                part, self._ends = self._ends[:_ENDED_AT_ONCE], self._ends[_ENDED_AT_ONCE:]
                try:
                    await self._write_together(part)
                except BaseException as error:
                    _fail(part, error)
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._is_writing = False
            # only if this task was cancelled: the loop ends
            _fail(self._ends, asyncio.CancelledError())
            self._ends = []

    async def _write_together(self, ends: Sequence[_End]) -> None:
        """Write ends in one transaction; one by one if it is refused, as one of them may be."""
        try:
            _tell(ends, await self._end(ends))
        except Exception as error:
            if not is_refused(error):
                raise
            for end in ends:
                try:
                    await self._write_alone(end)
                except Exception as failed:  # noqa: BLE001 - whoever waits for the end gets it
                    _fail([end], failed)

    async def _write_alone(self, end: _End) -> None:
        """Write an end; if it is refused, the image ends with an error instead."""
        try:
            _tell([end], await self._end([end]))
        except Exception as error:
            if not is_refused(error):
                raise
            item, _, told = end
            if (item.key, item.lease) in await self._end([(item, _REFUSED_END, told)]):
                raise ResultRefusedError(f"image {item.index} of job {item.job.id}") from error
            _tell([end], set())

    async def _end(self, ends: Sequence[_End]) -> set[tuple[tuple[str, int], int]]:
        """End images in one transaction; returns (key, lease) of those that were held."""
        started = time.monotonic()
        outcomes = {(item.key, item.lease): outcome for item, outcome, _ in reversed(ends)}
        ended: set[tuple[tuple[str, int], int]] = set()
        async with self._database.write() as connection:
            for job_id, part in _by_job([item for item, _, _ in ends]):
                job = await lock_job(connection, job_id)
                if job is None or job.state not in UNFINISHED_STATES:
                    continue
                query = update(JOB_ITEMS).where(held(part)).values(state="ended", worker=None)
                rows = await connection.execute(
                    query.returning(JOB_ITEMS.c.index, JOB_ITEMS.c.lease)
                )
                mine = sorted((row["index"], row["lease"]) for row in rows.mappings())
                keys = [((job_id, index), lease) for index, lease in mine]
                results = [Ended(key[1], outcomes[key, lease]) for key, lease in keys]
                await end_items(connection, job, results, at=clock.now())
                ended.update(keys)
        if self._database.has_one_writer:
            # other processes get as long as this one took; what ends meanwhile is written together
            ended_at = time.monotonic()
            self._rests_until = ended_at + min(ended_at - started, _LONGEST_REST_SECONDS)
        return ended

    async def retry_later(
        self, item: LeasedItem, *, delay_seconds: float, code: str, detail: str
    ) -> bool:
        """Give an image back for another attempt after a delay; False as for `finish`."""
        values = {
            "state": "queued",
            "worker": None,
            "available_at": clock.now() + delay_seconds,
            # its worker lives
            "lost": 0,
            "code": code,
            "detail": storable(detail),
        }
        async with self._database.write() as connection:
            job = await lock_job(connection, item.job.id)
            if job is None or job.state not in UNFINISHED_STATES:
                return False
            query = update(JOB_ITEMS).where(held([item])).values(values)
            given = await connection.execute(query)
        return given.rowcount == 1

    async def release(self, items: Sequence[LeasedItem]) -> int:
        """Give images back that were not worked on: the claim is not counted as an attempt.

        Returns how many were still held.
        """
        if not items:
            return 0
        values = {
            "state": "queued",
            "worker": None,
            "available_at": clock.now(),
            "attempts": JOB_ITEMS.c.attempts - 1,
        }
        number = 0
        async with self._database.write() as connection:
            for job_id, part in _by_job(items):
                job = await lock_job(connection, job_id)
                if job is None or job.state not in UNFINISHED_STATES:
                    continue
                query = update(JOB_ITEMS).where(held(part)).values(values)
                number += (await connection.execute(query)).rowcount
        return number

    async def release_worker(self, name: str) -> int:
        """Let the leases of a worker that was killed run out at once; returns their number.

        For a worker that starts again under its own name. Their claims count as attempts.
        """
        at = clock.now()
        held_by_it = select(JOB_ITEMS.c.job_id, JOB_ITEMS.c.index).where(
            LEASED, JOB_ITEMS.c.worker == name, JOB_ITEMS.c.available_at > at
        )
        indexes: dict[str, list[int]] = {}
        number = 0
        async with self._database.write() as connection:
            for row in (await connection.execute(held_by_it)).mappings():
                indexes.setdefault(row["job_id"], []).append(row["index"])
            for job_id, part in sorted(indexes.items()):
                await lock_job(connection, job_id)
                # as it is now: another may have claimed or ended it while this waited for the lock
                mine = (LEASED, JOB_ITEMS.c.worker == name, JOB_ITEMS.c.index.in_(part))
                query = update(JOB_ITEMS).where(JOB_ITEMS.c.job_id == job_id, *mine)
                number += (await connection.execute(query.values(available_at=at))).rowcount
        return number

    async def beat(self, worker: WorkerRecord) -> None:
        """Write a worker's heartbeat; rows of workers unseen for a day are removed."""
        row = {
            "host": worker.host,
            "pid": worker.pid,
            "started_at": worker.started_at,
            "seen_at": worker.seen_at,
            "concurrency": worker.concurrency,
            "operations": list(worker.operations),
            "counters": dict(worker.counters),
        }
        mine = JOB_WORKERS.c.name == worker.name
        unseen = JOB_WORKERS.c.seen_at < clock.now() - _FORGOTTEN_SECONDS
        async with self._database.write() as connection:
            written = await connection.execute(update(JOB_WORKERS).where(mine).values(row))
            if written.rowcount == 0:
                await connection.execute(delete(JOB_WORKERS).where(unseen))
                await connection.execute(insert(JOB_WORKERS).values(name=worker.name, **row))

    async def leave(self, name: str) -> None:
        """Remove the heartbeat of a worker that ends; call `release` for what it holds."""
        async with self._database.write() as connection:
            await connection.execute(delete(JOB_WORKERS).where(JOB_WORKERS.c.name == name))

    async def workers(self, seen_within_seconds: float) -> tuple[WorkerRecord, ...]:
        """Return workers seen lately, by name."""
        lately = JOB_WORKERS.c.seen_at >= clock.now() - seen_within_seconds
        query = select(JOB_WORKERS).where(lately).order_by(JOB_WORKERS.c.name)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(_worker(row) for row in rows)

    async def claim_webhook(
        self, *, lease_seconds: float = 60.0, except_origins: Sequence[str] = ()
    ) -> JobRecord | None:
        """Take a finished job whose webhook is due; None if there is none.

        except_origins: receivers that are left alone for now (`https://host:port`). Counts an
        attempt. Due again when the lease runs out, unless the outcome was told before.
        """
        at = clock.now()
        url = JOBS.c.webhook_url
        others = (
            (url != origin) & not_(url.startswith(f"{origin}/", autoescape=True))
            for origin in except_origins
        )
        due = (WEBHOOK_DUE, JOBS.c.webhook_at <= at, *others)
        async with self._database.read() as connection:
            if await connection.scalar(select(JOBS.c.id).where(*due).limit(1)) is None:
                return None
        query = select(*JOB_COLUMNS).where(*due).order_by(JOBS.c.webhook_at).limit(1)
        async with self._database.write() as connection:
            found = await connection.execute(query.with_for_update(skip_locked=True))
            row = found.mappings().first()
            if row is None:
                return None
            values = {
                "webhook_at": at + lease_seconds,
                "webhook_attempts": row["webhook_attempts"] + 1,
            }
            await connection.execute(update(JOBS).where(JOBS.c.id == row["id"]).values(values))
        return job_of({**row, **values})

    async def webhook_sent(self, job: JobRecord) -> bool:
        """Note a delivery of the job as claimed; False if another attempt was begun since."""
        return await self._note_webhook(job, "sent", None)

    async def webhook_failed(self, job: JobRecord, *, retry_at: float | None) -> bool:
        """Note a failed delivery: due again at `retry_at`, or given up if None.

        False if another attempt was begun since.
        """
        return await self._note_webhook(job, "failed" if retry_at is None else "due", retry_at)

    async def _note_webhook(self, job: JobRecord, state: str, at: float | None) -> bool:
        same = (JOBS.c.finished_at == job.finished_at) & (
            JOBS.c.webhook_attempts == job.webhook_attempts
        )
        query = update(JOBS).where(JOBS.c.id == job.id, WEBHOOK_DUE, same)
        async with self._database.write() as connection:
            noted = await connection.execute(query.values(webhook_state=state, webhook_at=at))
        return noted.rowcount == 1


def _by_job(items: Sequence[LeasedItem]) -> list[tuple[str, list[LeasedItem]]]:
    """Group images by job, in the order in which jobs are locked."""
    parts: dict[str, list[LeasedItem]] = {}
    for item in items:
        parts.setdefault(item.job.id, []).append(item)
    return sorted(parts.items())


def _tell(ends: Sequence[_End], ended: set[tuple[tuple[str, int], int]]) -> None:
    """Tell whoever waits whether an image was ended by them."""
    for item, _, told in ends:
        mine = (item.key, item.lease)
        if not told.done():
            told.set_result(mine in ended)
        # an image that was ended twice was ended by the first
        ended.discard(mine)


def _fail(ends: Sequence[_End], error: BaseException) -> None:
    for _, _, told in ends:
        if isinstance(error, asyncio.CancelledError):
            told.cancel()
        elif not told.done():
            told.set_exception(error)


def _worker(row: RowMapping) -> WorkerRecord:
    return WorkerRecord(**{**row, "operations": tuple(row["operations"])})

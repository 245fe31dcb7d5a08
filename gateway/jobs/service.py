"""Jobs as the routes use them: found, shown, followed, controlled."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.collections.names import subject_in
from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError, NotFoundError
from gateway.jobs.objects.base import ObjectStore
from gateway.jobs.results import open_result
from gateway.jobs.views import BACK, JobView, make_view
from gateway.jobs.webhook_policy import WebhookPolicy
from gateway.records import clock
from gateway.records.encryption import DataCipher
from gateway.records.job_erasure import ErasedItems
from gateway.records.job_types import (
    ACTIVE_STATES,
    ItemResult,
    ItemStatus,
    JobRecord,
    JobState,
)
from gateway.records.store import RecordStore
from gateway.records.upload_erasure import erase_upload
from gateway.types import Caller

WORKER_SECONDS: Final = 30.0
"""A worker that was not seen for so long counts as gone."""
_JOB_ID: Final = re.compile(r"[0-9a-f-]{36}")
_POLL_SECONDS: Final = 0.5
_ITEMS_AT_ONCE: Final = 32
"""Images read at once: their results may have hundreds of kilobytes each."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedItem:
    """An image of a job, with its answer (JSON) if there is one."""

    item: ItemResult
    answer: bytes | None


class Jobs:
    """All that routes and background tasks do with jobs."""

    def __init__(
        self,
        records: RecordStore,
        objects: ObjectStore,
        cipher: DataCipher,
        webhook_policy: WebhookPolicy,
        background: BackgroundTasks,
    ) -> None:
        self.records = records
        self.objects = objects
        self.cipher = cipher
        self.webhook_policy = webhook_policy
        self._background = background

    async def find(self, caller: Caller, job_id: str) -> JobRecord:
        """Return a job that the caller sees.

        Raises NotFoundError without it, also for one of another tenant, or one that enrols into a
        collection that does not exist for the caller.
        """
        # no other text can be an id, and PostgreSQL cannot compare every text
        job = (
            await self.records.jobs.get(caller.tenant, job_id)
            if _JOB_ID.fullmatch(job_id)
            else None
        )
        if job is None or not (job.collection is None or caller.sees(job.collection)):
            raise NotFoundError(f"there is no job {job_id[:100]}")
        return job

    async def page(
        self,
        caller: Caller,
        *,
        states: Collection[JobState],
        after: tuple[float, str] | None,
        limit: int,
    ) -> tuple[JobRecord, ...]:
        """Return jobs that the caller sees, newest first."""
        return await self.records.jobs.page(
            caller.tenant,
            states=states or None,
            collections=caller.collections,
            after=after,
            limit=limit,
        )

    async def views(self, jobs: Sequence[JobRecord]) -> list[JobView]:
        """Describe jobs."""
        now, progress = clock.now(), self.records.job_progress
        running = [job for job in jobs if job.state == "running"]
        active = [job.id for job in jobs if job.state in ACTIVE_STATES]
        ended_at = await progress.ended_at(running, back=BACK) if running else {}
        delayed = await progress.delayed(active, now=now) if active else {}
        workers = await self.records.job_queue.workers(WORKER_SECONDS) if active else ()
        return [
            make_view(
                job,
                ended_at.get(job.id, {}),
                workers=workers,
                delayed=delayed.get(job.id),
                now=now,
            )
            for job in jobs
        ]

    async def view(self, job: JobRecord) -> JobView:
        """Describe a job."""
        return (await self.views([job]))[0]

    async def new_views(self) -> Callable[[JobRecord], JobView]:
        """Return what describes a job at the moment at which it is submitted."""
        workers = await self.records.job_queue.workers(WORKER_SECONDS)
        return lambda job: make_view(job, {}, workers=workers, delayed=None, now=clock.now())

    async def wait(self, caller: Caller, job: JobRecord, *, seconds: float) -> JobRecord:
        """Return the job when it has ended or after `seconds`; raises NotFoundError if it goes."""
        end = time.monotonic() + seconds
        while not job.is_finished and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(_POLL_SECONDS, left))
            job = await self.find(caller, job.id)
        return job

    async def cancel(self, caller: Caller, job: JobRecord) -> JobRecord:
        """End a job; raises ConflictError if it is done or expired."""
        # of an upload, names of people who were erased meanwhile do not stay either
        erase = partial(erase_upload, subject_of=subject_in, erased=ErasedItems())
        cancelled = await self.records.jobs.cancel(caller.tenant, job.id, change=erase)
        # nothing reads its images any more
        self._background.start("job-objects", self._drop_objects(job.id))
        return cancelled

    async def items(
        self,
        job: JobRecord,
        *,
        after: int = -1,
        limit: int | None = None,
        status: ItemStatus | None = None,
    ) -> AsyncGenerator[OpenedItem, None]:
        """Yield images behind the index `after`, in order, reading a few at a time.

        Raises NotFoundError for a job that has expired.
        """
        if job.state == "expired":
            raise NotFoundError(f"the results of job {job.id} were deleted: their time was over")
        left = limit
        while left is None or left > 0:
            wanted = _ITEMS_AT_ONCE if left is None else min(_ITEMS_AT_ONCE, left)
            found = await self.records.jobs.results(
                job.id, after_index=after, limit=wanted, status=status
            )
            for item in found:
                yield self._open(job, item)
                after = item.index
            if len(found) < wanted:
                return
            left = None if left is None else left - len(found)

    async def follow(
        self, caller: Caller, job: JobRecord, *, after: int
    ) -> AsyncGenerator[OpenedItem | JobView | None, None]:
        """Yield images as they end, behind the event `after`, and the job when it changes.

        Ends with the job when all its images were yielded, or when it is removed. Yields None
        when nothing happened for a moment. Other processes may end images, so the records are
        read twice a second.
        """
        shown: object = None
        while True:
            # the job first: all its images that it counts are then there to be read
            view = await self.view(job)
            # a job that is repeated counts on, so that its events may lie far behind each other
            while after < job.sequence:
                found = await self.records.jobs.events(
                    job.id, after_sequence=after, limit=_ITEMS_AT_ONCE
                )
                for item in found:
                    yield self._open(job, item)
                    after = item.sequence or after
                if len(found) < _ITEMS_AT_ONCE:
                    break
            if view.shown_change != shown:
                shown = view.shown_change
                yield view
            else:
                yield None
            if job.is_finished:
                return
            await asyncio.sleep(_POLL_SECONDS)
            try:
                job = await self.find(caller, job.id)
            except NotFoundError:
                return

    def _open(self, job: JobRecord, item: ItemResult) -> OpenedItem:
        if item.result is None:
            return OpenedItem(item, None)
        return OpenedItem(item, open_result(self.cipher, job.id, item.index, item.result))

    async def _drop_objects(self, job_id: str) -> None:
        try:
            await self.objects.delete_job(job_id)
        except AurumError as error:
            # housekeeping deletes them when the job expires
            log.warning("images stay for now", extra={"job_id": job_id, "reason": error.detail})

"""Jobs of many images as clients see them: made, listed, controlled, expired."""

from collections.abc import Collection, Sequence

from gateway.records.database import Database
from gateway.records.job_tables import JOBS
from gateway.records.job_types import (
    ItemResult,
    ItemStatus,
    JobDepth,
    JobRecord,
    JobState,
    NewItem,
)

_JOBS = JOBS


class JobRecords:
    """Jobs by tenant, with the results of their images.

    Every method raises StorageUnavailableError where the database cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, job: JobRecord) -> None:
        """Write a job in the state `receiving`; it is abandoned an hour after its last image."""
        raise NotImplementedError

    async def add_items(self, job_id: str, items: Sequence[NewItem]) -> None:
        """Add images to a job that is being received, in short transactions.

        Raises NotFoundError without the job (it was abandoned, say), ConflictError if it is no
        longer being received, IntegrityError for an index that it has.
        """
        raise NotImplementedError

    async def submit(self, job_id: str, *, skipped: int = 0) -> JobRecord:
        """Let workers begin; a job without an open image is done at once. Returns the job.

        Raises NotFoundError without the job, ConflictError if it was submitted before.
        """
        raise NotImplementedError

    async def discard(self, job_id: str) -> None:
        """Remove a job that is being received, with its images; others stay."""
        raise NotImplementedError

    async def get(self, tenant: str, job_id: str) -> JobRecord | None:
        """Return a job of a tenant, in any state."""
        raise NotImplementedError

    async def needing_objects(self, job_ids: Collection[str]) -> set[str]:
        """Return which of these jobs may still need their objects.

        Those that are unknown, cancelled, expired, or done without an error do not.
        """
        raise NotImplementedError

    async def page(
        self,
        tenant: str,
        *,
        limit: int,
        states: Collection[JobState] | None = None,
        after: tuple[float, str] | None = None,
    ) -> tuple[JobRecord, ...]:
        """Return jobs of a tenant, newest first, behind (created_at, id) of the last one seen.

        Jobs that are being received are left out unless `states` names that state.
        """
        raise NotImplementedError

    async def results(
        self,
        job_id: str,
        *,
        limit: int,
        after_index: int = -1,
        status: ItemStatus | None = None,
    ) -> tuple[ItemResult, ...]:
        """Return images by index, ended or not; of one status if `status` is given."""
        raise NotImplementedError

    async def events(
        self, job_id: str, *, limit: int, after_sequence: int = 0
    ) -> tuple[ItemResult, ...]:
        """Return images that have ended, in the order in which they did.

        A retry removes the events of the errors that it repeats; new ones have higher numbers.
        """
        raise NotImplementedError

    async def cancel(self, tenant: str, job_id: str) -> JobRecord:
        """End a job; images that have not ended never will, whoever holds them.

        A job that was cancelled before is returned as it is. Raises NotFoundError without the
        job, ConflictError if it is done or expired.
        """
        raise NotImplementedError

    async def pause(self, tenant: str, job_id: str) -> JobRecord:
        """Let no worker claim further images; those that are held still end.

        A job that is paused is returned as it is. Raises NotFoundError without the job,
        ConflictError if it is neither queued nor running.
        """
        raise NotImplementedError

    async def resume(self, tenant: str, job_id: str) -> JobRecord:
        """Continue a paused job; one that is queued or running is returned as it is.

        Raises NotFoundError without the job, ConflictError if it has finished.
        """
        raise NotImplementedError

    async def retry_failed(self, tenant: str, job_id: str) -> JobRecord:
        """Queue the images that ended with an error again, except those refused on receipt.

        Raises NotFoundError without the job, ConflictError if it was cancelled or has expired, or
        if there is nothing to repeat.
        """
        raise NotImplementedError

    async def expire(self, now: float) -> tuple[str, ...]:
        """Remove images and results of jobs whose time is over; abandoned jobs entirely.

        Returns the ids of these jobs: their objects must go.
        """
        raise NotImplementedError

    async def forget(self, before: float) -> int:
        """Remove expired jobs whose time was over before this time; returns their number."""
        raise NotImplementedError

    async def depth(self) -> JobDepth:
        """Count what is waiting, of all tenants."""
        raise NotImplementedError

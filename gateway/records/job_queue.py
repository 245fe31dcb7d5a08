"""The queue of images: workers claim them with leases, and only a lease's holder ends one."""

from collections.abc import Collection, Sequence

from gateway.records.database import Database
from gateway.records.job_types import (
    MAX_ATTEMPTS,
    ItemOutcome,
    JobRecord,
    LeasedItem,
    WorkerRecord,
)


class JobQueue:
    """Images that wait for a worker, and webhooks that wait for delivery.

    Any number of processes may use it at once. Every method raises StorageUnavailableError where
    the database cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

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
        raise NotImplementedError

    async def renew(
        self, worker: str, items: Sequence[LeasedItem], lease_seconds: float
    ) -> set[tuple[str, int]]:
        """Extend leases; returns (job id, index) of those still held.

        An image is no longer held if another worker has claimed it since, it has ended, or its
        job was cancelled.
        """
        raise NotImplementedError

    async def finish(self, item: LeasedItem, outcome: ItemOutcome) -> bool:
        """End an image: its result, the job's counts, sequence and state in one transaction.

        False if the lease is not the current one or the job was cancelled: the result is dropped.
        """
        raise NotImplementedError

    async def retry_later(
        self, item: LeasedItem, *, delay_seconds: float, code: str, detail: str
    ) -> bool:
        """Give an image back for another attempt after a delay; False as for `finish`."""
        raise NotImplementedError

    async def release(self, items: Sequence[LeasedItem]) -> int:
        """Give images back that were not worked on: the claim is not counted as an attempt.

        Returns how many were still held.
        """
        raise NotImplementedError

    async def release_worker(self, name: str) -> int:
        """Let the leases of a worker that was killed run out at once; returns their number.

        For a worker that starts again under its own name. Their claims count as attempts.
        """
        raise NotImplementedError

    async def beat(self, worker: WorkerRecord) -> None:
        """Write a worker's heartbeat; rows of workers unseen for a day are removed."""
        raise NotImplementedError

    async def leave(self, name: str) -> None:
        """Remove the heartbeat of a worker that ends; call `release` for what it holds."""
        raise NotImplementedError

    async def workers(self, seen_within_seconds: float) -> tuple[WorkerRecord, ...]:
        """Return workers seen lately, by name."""
        raise NotImplementedError

    async def claim_webhook(self, *, lease_seconds: float = 60.0) -> JobRecord | None:
        """Take a finished job whose webhook is due; None if there is none.

        Counts an attempt. Due again when the lease runs out, unless the outcome was told before.
        """
        raise NotImplementedError

    async def webhook_sent(self, job: JobRecord) -> bool:
        """Note a delivery of the job as claimed; False if another attempt was begun since."""
        raise NotImplementedError

    async def webhook_failed(self, job: JobRecord, *, retry_at: float | None) -> bool:
        """Note a failed delivery: due again at `retry_at`, or given up if None.

        False if another attempt was begun since.
        """
        raise NotImplementedError

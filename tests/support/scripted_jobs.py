"""A queue of images without a database, for the loop of a worker.

Its contract is that of `gateway.records.job_queue.JobQueue`, which tests/contract/test_job_queue.py
holds on both databases.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.errors import AurumError
from gateway.records.job_queue import ResultRefusedError
from gateway.records.job_types import (
    ItemOutcome,
    JobRecord,
    JobState,
    LeasedItem,
    Operation,
    WorkerRecord,
)


def job(operation: Operation = "score", *, job_id: str = "job", **fields: Any) -> JobRecord:
    """A job that is running."""
    made = JobRecord(id=job_id, tenant="default", actor="tester", operation=operation, created_at=1)
    return replace(made, state="running", **fields)


def leased(index: int = 0, *, of: JobRecord | None = None, attempts: int = 1) -> LeasedItem:
    """An image that a worker holds."""
    of = of or job()
    key = f"{of.id}/{index:06d}"
    return LeasedItem(of, index, f"{index}.png", "0" * 64, key, lease=attempts, attempts=attempts)


@dataclass(frozen=True)
class Later:
    """An image that was given back for another attempt."""

    delay_seconds: float
    code: str
    detail: str


class ScriptedQueue:
    """Gives out `items` in slices and remembers what became of them; fails with `away`."""

    def __init__(self, *items: LeasedItem) -> None:
        self.items = list(items)
        self.away: AurumError | None = None
        self.ended: dict[int, ItemOutcome] = {}
        self.later: dict[int, Later] = {}
        self.released: list[int] = []
        self.lost: set[int] = set()
        self.refused: set[int] = set()
        """Whose outcomes no database stores."""
        self.renewals = 0
        self.claims = 0
        self.taken_up: list[str] = []
        self.beats: list[WorkerRecord] = []
        self.left: list[str] = []
        self.others: list[WorkerRecord] = []
        self.changed = asyncio.Event()

    def _answer(self) -> None:
        self.changed.set()
        if self.away is not None:
            raise self.away

    async def until(self, count: int) -> None:
        """Wait until so many images have ended or were given back."""
        async with asyncio.timeout(60):
            while len(self.ended) + len(self.later) + len(self.released) < count:
                self.changed.clear()
                await self.changed.wait()

    async def claim(
        self,
        worker: str,
        *,
        operations: Collection[str],
        limit: int,
        lease_seconds: float,
        max_attempts: int,
    ) -> tuple[LeasedItem, ...]:
        self.claims += 1
        self._answer()
        taken, self.items = self.items[:limit], self.items[limit:]
        return tuple(taken)

    async def renew(
        self, worker: str, items: Sequence[LeasedItem], lease_seconds: float
    ) -> set[tuple[str, int]]:
        self.renewals += 1
        self._answer()
        return {item.key for item in items if item.index not in self.lost}

    async def finish(self, item: LeasedItem, outcome: ItemOutcome) -> bool:
        self._answer()
        if item.index in self.lost:
            return False
        if item.index in self.refused:
            raise ResultRefusedError
        assert item.index not in self.ended
        self.ended[item.index] = outcome
        return True

    async def retry_later(
        self, item: LeasedItem, *, delay_seconds: float, code: str, detail: str
    ) -> bool:
        self._answer()
        self.later[item.index] = Later(delay_seconds, code, detail)
        return True

    async def release(self, items: Sequence[LeasedItem]) -> int:
        self._answer()
        self.released += [item.index for item in items]
        return len(items)

    async def release_worker(self, name: str) -> int:
        self._answer()
        self.taken_up.append(name)
        return 0

    async def beat(self, worker: WorkerRecord) -> None:
        self._answer()
        self.beats.append(worker)

    async def workers(self, seen_within_seconds: float) -> tuple[WorkerRecord, ...]:
        self._answer()
        return (*self.others, *self.beats[-1:])

    async def leave(self, name: str) -> None:
        self._answer()
        self.left.append(name)


class ScriptedRecords:
    """As much of a `RecordStore` as a worker uses; `states` are those of jobs by id."""

    def __init__(self, queue: ScriptedQueue) -> None:
        self.job_queue = queue
        self.jobs = self
        self.states: dict[str, JobState] = {}

    async def get(self, tenant: str, job_id: str) -> JobRecord | None:
        state = self.states.get(job_id, "running")
        return replace(job(job_id=job_id), state=state)

    async def health(self) -> str:
        return "scripted"


class MemoryObjects:
    """An `ObjectStore` in memory; fails with `away`."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = objects or {}
        self.away: AurumError | Exception | None = None
        self.reads = 0

    async def get(self, key: str) -> bytes:
        from gateway.jobs.objects.base import ObjectMissingError

        self.reads += 1
        await self.health()
        if key not in self.objects:
            raise ObjectMissingError(key)
        return self.objects[key]

    async def delete(self, keys: Collection[str]) -> None:
        await self.health()
        for key in keys:
            self.objects.pop(key, None)

    async def health(self) -> None:
        if self.away is not None:
            raise self.away

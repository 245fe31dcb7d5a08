"""The loop of a worker: claim a slice, work on its images, write what became of them."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError
from gateway.jobs.objects.base import ObjectStore
from gateway.records.job_queue import ResultRefusedError
from gateway.records.job_types import ItemOutcome, LeasedItem
from gateway.records.store import RecordStore
from gateway.worker.backoff import Backoff, Pauses
from gateway.worker.item_run import GiveBack, ItemRunner
from gateway.worker.state import WorkerState
from gateway.worker.upstream import Insistence

T = TypeVar("T")
log = logging.getLogger(__name__)

_POLLS: Final = Pauses(first=0.2, longest=1.0)
"""Between questions for work while there is none."""
_PREFETCHED: Final = 2
"""Images that are fetched while others are being answered."""
_RENEWALS: Final = 4
"""In the time of a lease."""
_LONGEST_RENEWAL_SECONDS: Final = 3.0
"""A cancelled or paused job is noticed after this long."""
_FINISH_SECONDS: Final = 0.6
"""That images in flight have to end when the worker stops."""
_RELEASE_SECONDS: Final = 0.8
_CLAIM_SECONDS: Final = 0.3

_Lease = tuple[str, int, int]
"""Job, index and number of a lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneOptions:
    """How a lane claims."""

    slice_images: int
    lease_seconds: float
    attempts: int
    polls: Pauses = _POLLS


class Lane:
    """Works on jobs until it is stopped."""

    def __init__(
        self,
        options: LaneOptions,
        records: RecordStore,
        objects: ObjectStore,
        runner: ItemRunner,
        state: WorkerState,
        insistence: Insistence,
    ) -> None:
        self._options = options
        self._records = records
        self._queue = records.job_queue
        self._objects = objects
        self._runner = runner
        self._name = state.name
        self._operations = state.operations
        self._slots = state.slots
        self._counters = state.counters
        self._insistence = insistence
        self._waiting: deque[LeasedItem] = deque()
        self._running: dict[_Lease, tuple[LeasedItem, asyncio.Task[None]]] = {}
        self._written: set[_Lease] = set()
        """Of what is running: images whose end is recorded, which need no lease any more."""
        self._tasks = BackgroundTasks()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def is_working(self) -> bool:
        """Whether it holds an image."""
        return bool(self._waiting or self._running)

    def stop(self) -> None:
        """Let `run` return: images in flight may end within a moment, all others are given back."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Work until `stop` is called; a crash gives back nothing, as a killed process."""
        released = await self._until_stopped(
            self._insistence.on(lambda: self._queue.release_worker(self._name))
        )
        if released:
            log.warning("took up after a killed worker", extra={"images": released})
        async with BackgroundTasks() as background:
            background.keep("leases", self._keep_leases)
            try:
                await self._work()
            finally:
                await self._give_back()

    async def _work(self) -> None:
        idle = Backoff(self._options.polls)
        while not self._stopping.is_set():
            if not self._waiting:
                claimed = await self._until_stopped(self._insistence.on(self._claim))
                if not claimed:
                    await self._pause(idle.next())
                    continue
                idle.reset()
                self._waiting.extend(claimed)
            if len(self._running) < self._slots.limit + _PREFETCHED:
                self._start(self._waiting.popleft())
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _claim(self) -> tuple[LeasedItem, ...]:
        return await self._queue.claim(
            self._name,
            operations=self._operations,
            limit=self._options.slice_images,
            lease_seconds=self._options.lease_seconds,
            max_attempts=self._options.attempts,
        )

    def _start(self, item: LeasedItem) -> None:
        task = self._tasks.detach(f"item-{item.index}", self._finish(item))
        self._running[_lease(item)] = item, task
        task.add_done_callback(lambda _: self._ended(item))

    def _ended(self, item: LeasedItem) -> None:
        _, task = self._running.pop(_lease(item))
        self._written.discard(_lease(item))
        self._changed.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # its lease runs out, and another attempt is made
            log.error("an image was not written", exc_info=error, extra={"job_id": item.job.id})

    async def _finish(self, item: LeasedItem) -> None:
        ending = await self._runner.run(item)
        if isinstance(ending, GiveBack):
            held = await self._insistence.on(
                lambda: self._queue.retry_later(
                    item,
                    delay_seconds=ending.delay_seconds,
                    code=ending.code,
                    detail=ending.detail,
                )
            )
            self._counters.retried += held
        else:
            try:
                held = await self._insistence.on(lambda: self._queue.finish(item, ending))
            except ResultRefusedError as error:
                log.exception("a result could not be stored", extra={"item": str(error)})
                self._counters.failed += 1
                return
            finally:
                self._written.add(_lease(item))
            await self._note(item, ending, held=held)
        self._counters.dropped += not held

    async def _note(self, item: LeasedItem, outcome: ItemOutcome, *, held: bool) -> None:
        """Count an image that has ended; one that ended well is not needed any more."""
        if not held:
            return
        if outcome.status == "error":
            self._counters.failed += 1
            return
        self._counters.ok += 1
        # what is left is swept later
        with suppress(AurumError):
            await self._objects.delete([item.object_key])

    async def _keep_leases(self) -> None:
        """Extend the leases of what is held, and let go what is not to be worked on any more."""
        pause = min(self._options.lease_seconds / _RENEWALS, _LONGEST_RENEWAL_SECONDS)
        while True:
            await asyncio.sleep(pause)
            if self.is_working:
                await self._insistence.on(self._renew)

    async def _renew(self) -> None:
        running = {
            lease: each for lease, each in self._running.items() if lease not in self._written
        }
        held = [*self._waiting, *(item for item, _ in running.values())]
        kept = await self._queue.renew(self._name, held, self._options.lease_seconds)
        self._drop(item for item in held if item.key not in kept)
        for lease, (item, task) in running.items():
            if item.key not in kept and lease not in self._written:
                task.cancel()
        await self._release_paused()

    async def _release_paused(self) -> None:
        jobs = {item.job.id: item.job for item in self._waiting}
        for job in jobs.values():
            now = await self._records.jobs.get(job.tenant, job.id)
            if now is not None and now.state == "paused":
                items = [item for item in self._waiting if item.job.id == job.id]
                self._drop(items)
                await self._queue.release(items)

    def _drop(self, items: Iterable[LeasedItem]) -> None:
        gone = {_lease(item) for item in items}
        self._waiting = deque(item for item in self._waiting if _lease(item) not in gone)

    async def _until_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what `work` returns; None if it did not end in time after `stop`."""
        task = self._tasks.detach("claim", work)
        stopping = self._tasks.detach("stop", self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                # a claim that the database has taken is given back if it is known
                await asyncio.wait({task}, timeout=_CLAIM_SECONDS)
            return task.result() if task.done() else None
        finally:
            stopping.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_CLAIM_SECONDS)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _give_back(self) -> None:
        """Stop within a moment: what is in flight may end, the rest is released."""
        started = time.monotonic()
        running, untouched = list(self._running.values()), list(self._waiting)
        self._waiting.clear()
        tasks = [task for _, task in running]
        releasing = self._tasks.detach("release", self._queue.release(untouched))
        if tasks:
            await asyncio.wait(tasks, timeout=_FINISH_SECONDS)
        cut_off = [item for item, task in running if not task.done()]
        for task in tasks:
            task.cancel()
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await releasing
                if cut_off:
                    await asyncio.wait(tasks)
                    await self._queue.release(cut_off)
        except (AurumError, TimeoutError) as error:
            # the leases run out by themselves
            log.warning("images were not given back", extra={"reason": str(error)})
        if running or untouched:
            seconds = round(time.monotonic() - started, 2)
            given_back = len(cut_off) + len(untouched)
            log.info("stopped", extra={"given_back": given_back, "seconds": seconds})


def _lease(item: LeasedItem) -> _Lease:
    return item.job.id, item.index, item.lease

"""A worker: its lane, its heartbeat, and what adapts the number of images in Triton."""

import asyncio
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.work_done import WorkDone
from gateway.records import clock
from gateway.records.job_queue import JobQueue
from gateway.records.job_types import Operation, WorkerRecord
from gateway.worker.concurrency import ConcurrencyController, LoadMeter
from gateway.worker.counters import Counters
from gateway.worker.lane import Lane
from gateway.worker.slots import Slots
from gateway.worker.upstream import Insistence

BEAT_SECONDS: Final = 3.0
IDLE_BEAT_SECONDS: Final = 10.0
"""Between heartbeats without work: each is a write to the disk."""
_LOOK_SECONDS: Final = 0.5
_READING_SECONDS: Final = 0.4
_READING_TIMEOUT_SECONDS: Final = 1.0
_LEAVE_SECONDS: Final = 0.5


class Heartbeat:
    """Writes what a worker does to the records."""

    def __init__(
        self,
        name: str,
        operations: tuple[Operation, ...],
        queue: JobQueue,
        slots: Slots,
        counters: Counters,
    ) -> None:
        self.name = name
        self._operations = operations
        self._queue = queue
        self._slots = slots
        self._counters = counters
        self._started_at = clock.now()

    async def beat(self) -> None:
        """Write one heartbeat."""
        await self._queue.beat(
            WorkerRecord(
                name=self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=self._started_at,
                seen_at=clock.now(),
                concurrency=self._slots.limit,
                operations=self._operations,
                counters=self._counters.as_mapping(),
            )
        )

    async def leave(self) -> None:
        """Remove the heartbeat of a worker that ends."""
        await self._queue.leave(self.name)


class Worker:
    """Runs a lane with all that belongs to it.

    read_work_done: asks Triton; raises AurumError where it does not answer.
    own_images: that this worker has had answered by Triton.
    note_outages: brings the counters of outages up to date.
    """

    def __init__(
        self,
        lane: Lane,
        heartbeat: Heartbeat,
        slots: Slots,
        insistence: Insistence,
        *,
        most: int,
        read_work_done: Callable[[Deadline], Awaitable[WorkDone]],
        own_images: Callable[[], int],
        note_outages: Callable[[], None],
    ) -> None:
        self.lane = lane
        self._heartbeat = heartbeat
        self._slots = slots
        self._insistence = insistence
        self._most = most
        self._read_work_done = read_work_done
        self._own_images = own_images
        self._note_outages = note_outages

    @property
    def name(self) -> str:
        """Name in leases and heartbeats."""
        return self._heartbeat.name

    async def run(self) -> None:
        """Work until `lane.stop` is called."""
        try:
            async with BackgroundTasks() as background:
                background.keep("heartbeat", self._keep_beating)
                background.keep("load", self._keep_adapting)
                await self.lane.run()
        finally:
            # without the records the heartbeat goes stale by itself
            with suppress(AurumError, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._heartbeat.leave()

    async def _keep_beating(self) -> None:
        beaten_at = -math.inf
        while True:
            pause = BEAT_SECONDS if self.lane.is_working else IDLE_BEAT_SECONDS
            if time.monotonic() - beaten_at >= pause:
                beaten_at = time.monotonic()
                self._note_outages()
                await self._insistence.on(self._heartbeat.beat)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _keep_adapting(self) -> None:
        while True:
            controller = ConcurrencyController(most=self._most)
            meter = LoadMeter()
            self._slots.resize(controller.limit)
            while self.lane.is_working:
                try:
                    deadline = Deadline.after(_READING_TIMEOUT_SECONDS)
                    done = await self._read_work_done(deadline)
                    load = meter.read(done, own_images=self._own_images())
                    self._slots.resize(controller.note(load))
                except AurumError:
                    # without readings the number stays
                    pass
                await asyncio.sleep(_READING_SECONDS)
            await asyncio.sleep(_READING_SECONDS)

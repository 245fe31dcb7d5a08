"""A worker: its lane, its heartbeat, and what adapts the number of images in Triton."""

import asyncio
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.work_done import WorkDone
from gateway.records import clock
from gateway.records.job_queue import JobQueue
from gateway.records.job_types import WorkerRecord
from gateway.worker.concurrency import ConcurrencyController, LoadMeter
from gateway.worker.lane import Lane
from gateway.worker.state import WorkerState
from gateway.worker.upstream import Insistence

BEAT_SECONDS: Final = 3.0
IDLE_BEAT_SECONDS: Final = 10.0
"""Between heartbeats without work: each is a write to the disk."""
_LOOK_SECONDS: Final = 0.2
_READING_SECONDS: Final = 0.4
_READING_TIMEOUT_SECONDS: Final = 1.0
_LEAVE_SECONDS: Final = 0.5
ASKED: Final = "asked"
"""In heartbeats: images that Triton has answered or refused."""
_PEERS_SECONDS: Final = 1.0
_PEER_SEEN_SECONDS: Final = 30.0
_PEERS_READINGS: Final = 12
"""Longer than what other workers asked may be unknown: their heartbeats, and the look at them."""


class Heartbeat:
    """Writes what a worker does to the records."""

    def __init__(self, state: WorkerState, queue: JobQueue, own_images: Callable[[], int]) -> None:
        self._state = state
        self._queue = queue
        self._own_images = own_images
        self._started_at = clock.now()

    async def beat(self) -> None:
        """Write one heartbeat."""
        state = self._state
        await self._queue.beat(
            WorkerRecord(
                name=state.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_at=self._started_at,
                seen_at=clock.now(),
                concurrency=state.slots.limit,
                operations=state.operations,
                counters={**state.numbers(), ASKED: self._own_images()},
            )
        )

    async def others(self, seen_within_seconds: float) -> list[WorkerRecord]:
        """Return the other workers that were seen lately."""
        workers = await self._queue.workers(seen_within_seconds)
        return [each for each in workers if each.name != self._state.name]

    async def leave(self) -> None:
        """Remove the heartbeat of a worker that ends."""
        await self._queue.leave(self._state.name)


class Worker:
    """Runs a lane with all that belongs to it.

    read_work_done: asks Triton; raises AurumError where it does not answer.
    own_images: that this worker has had answered by Triton.
    """

    def __init__(
        self,
        state: WorkerState,
        lane: Lane,
        heartbeat: Heartbeat,
        insistence: Insistence,
        *,
        most: int,
        read_work_done: Callable[[Deadline], Awaitable[WorkDone]],
        own_images: Callable[[], int],
    ) -> None:
        self.state = state
        self.lane = lane
        self._heartbeat = heartbeat
        self._insistence = insistence
        self._most = most
        self._read_work_done = read_work_done
        self._own_images = own_images

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
        beaten_at, worked = -math.inf, False
        while True:
            worked = worked or self.lane.is_working
            pause = BEAT_SECONDS if worked else IDLE_BEAT_SECONDS
            if time.monotonic() - beaten_at >= pause:
                # after the last image once more soon, with the final numbers
                beaten_at, worked = time.monotonic(), self.lane.is_working
                await self._insistence.on(self._heartbeat.beat)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _keep_adapting(self) -> None:
        while True:
            controller = ConcurrencyController(most=self._most)
            self.state.slots.resize(controller.limit)
            peers = await self._find_peers()
            meter = _meter(peers)
            looked_at = time.monotonic()
            while self.lane.is_working:
                if time.monotonic() - looked_at >= _PEERS_SECONDS:
                    known, looked_at = peers, time.monotonic()
                    peers = await self._find_peers()
                    if peers.keys() != known.keys():
                        meter = _meter(peers)
                await self._adapt(controller, meter, sum(peers.values()))
                await asyncio.sleep(_READING_SECONDS)
            await asyncio.sleep(_READING_SECONDS)

    async def _adapt(
        self, controller: ConcurrencyController, meter: LoadMeter, of_peers: int
    ) -> None:
        try:
            done = await self._read_work_done(Deadline.after(_READING_TIMEOUT_SECONDS))
        except AurumError:
            # without readings the number stays
            return
        load = meter.read(done, own_images=self._own_images() + of_peers)
        self.state.slots.resize(controller.note(load))

    async def _find_peers(self) -> dict[tuple[str, float], int]:
        """Count the images that each other worker says that it had answered."""
        workers = await self._insistence.on(lambda: self._heartbeat.others(_PEER_SEEN_SECONDS))
        return {(each.name, each.started_at): int(each.counters.get(ASKED, 0)) for each in workers}


def _meter(peers: Mapping[tuple[str, float], int]) -> LoadMeter:
    return LoadMeter(readings=_PEERS_READINGS) if peers else LoadMeter()

"""What runs beside a worker's loop: its heartbeat, and what adapts it to other callers."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError, StorageUnavailableError
from gateway.inference.work_done import WorkDone
from gateway.records.job_types import WorkerRecord
from gateway.worker import worker as module
from gateway.worker.backoff import Pauses
from gateway.worker.state import Upstreams, WorkerState
from gateway.worker.upstream import Insistence, Upstream
from gateway.worker.worker import Heartbeat, Worker
from tests.support.scripted_jobs import ScriptedQueue

HASTY = Pauses(first=0.001, longest=0.002)


class Lane:
    """Works until it is stopped."""

    def __init__(self) -> None:
        self.is_working = True
        self.stopping = asyncio.Event()

    def stop(self) -> None:
        self.stopping.set()

    async def run(self) -> None:
        await self.stopping.wait()


class World:
    def __init__(self, background: BackgroundTasks) -> None:
        self.lane = Lane()
        self.queue = ScriptedQueue()
        self.done = WorkDone(0, 0.0, 1.0)
        self.away = False
        self.reads = 0
        self.triton_answers = asyncio.Event()
        self.triton = Upstream("Triton", self.probe, background, pauses=HASTY)
        upstreams = Upstreams(self.triton, self.triton, self.triton)
        self.state = WorkerState("w1", ("score",), upstreams)
        self.worker = Worker(
            self.state,
            self.lane,  # type: ignore[arg-type]
            Heartbeat(self.state, self.queue, lambda: 0),  # type: ignore[arg-type]
            Insistence(pauses=HASTY),
            most=3,
            read_work_done=self.read,
            own_images=lambda: 0,
        )

    async def probe(self) -> None:
        if not self.triton_answers.is_set():
            raise InferenceUnavailableError("away")

    async def read(self, deadline: Deadline) -> WorkDone:
        deadline.remaining_seconds()
        self.reads += 1
        if self.away:
            raise InferenceUnavailableError("away")
        return self.done

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.worker.run())
        try:
            async with asyncio.timeout(60):
                yield
        finally:
            self.lane.stop()
            await task


@pytest.fixture
async def world(monkeypatch) -> AsyncIterator[World]:
    for name in (
        "BEAT_SECONDS",
        "IDLE_BEAT_SECONDS",
        "_LOOK_SECONDS",
        "_READING_SECONDS",
        "_PEERS_SECONDS",
    ):
        monkeypatch.setattr(module, name, 0.005)
    async with BackgroundTasks() as background:
        yield World(background)


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_heartbeats_say_who_works_and_what_was_done(world):
    world.state.counters.ok = 7
    async with world.running():
        await until(lambda: len(world.queue.beats) > 1)
    beat = world.queue.beats[-1]
    assert (beat.name, beat.pid, beat.operations) == ("w1", os.getpid(), ("score",))
    assert beat.seen_at >= beat.started_at
    assert beat.counters["ok"] == 7
    assert beat.counters["waiting_for_triton"] == 0


async def test_a_heartbeat_says_that_triton_is_away(world):
    world.triton.suspect()
    async with world.running():
        await until(
            lambda: world.queue.beats and world.queue.beats[-1].counters["waiting_for_triton"]
        )


async def test_the_heartbeat_goes_with_the_worker(world):
    async with world.running():
        await until(lambda: world.queue.beats)
        assert world.queue.left == []
    assert world.queue.left == ["w1"]


async def test_a_worker_ends_without_the_records(world):
    async with world.running():
        world.queue.away = StorageUnavailableError("records: gone")
    assert world.queue.left == []


async def test_without_work_heartbeats_are_rare(world, monkeypatch):
    monkeypatch.setattr(module, "IDLE_BEAT_SECONDS", 3600)
    world.lane.is_working = False
    async with world.running():
        await until(lambda: world.queue.beats)
        await asyncio.sleep(0.05)
        assert len(world.queue.beats) == 1
        world.lane.is_working = True
        await until(lambda: len(world.queue.beats) > 2)
        world.lane.is_working = False
        world.state.counters.ok = 9
        await until(lambda: world.queue.beats[-1].counters["ok"] == 9)


async def test_it_takes_more_images_at_a_time_until_others_ask(world):
    async with world.running():
        await until(lambda: world.state.slots.limit == 3)
        images = 0
        while world.state.slots.limit > 1:
            images += 5
            world.done = WorkDone(images, 0.0, 1.0)
            await asyncio.sleep(0.005)


async def test_without_readings_the_number_stays(world):
    async with world.running():
        await until(lambda: world.state.slots.limit == 2)
        world.away = True
        limit = world.state.slots.limit
        await asyncio.sleep(0.03)
        assert world.state.slots.limit in (limit, limit + 1)
        world.away = False
        await until(lambda: world.state.slots.limit == 3)


async def test_after_a_pause_it_begins_with_one_again(world):
    async with world.running():
        await until(lambda: world.state.slots.limit == 3)
        world.lane.is_working = False
        await until(lambda: world.state.slots.limit == 1)


def peer(asked: int) -> WorkerRecord:
    return WorkerRecord("w2", "there", 1, 1.0, 2.0, 4, ("score",), {"asked": asked})


async def test_images_of_other_workers_are_not_those_of_callers(world):
    world.queue.others = [peer(0)]
    async with world.running():
        await until(lambda: world.state.slots.limit == 3)
        for images in range(0, 100, 5):
            # Triton has counted them before they are reported
            world.done = WorkDone(images, 0.0, 1.0)
            await asyncio.sleep(0.004)
            world.queue.others = [peer(images)]
            reads = world.reads
            await until(lambda r=reads: world.reads > r + 3)
            assert world.state.slots.limit == 3


async def test_callers_are_seen_beside_other_workers(world):
    world.queue.others = [peer(0)]
    async with world.running():
        await until(lambda: world.state.slots.limit == 3)
        images = 0
        while world.state.slots.limit > 1:
            images += 5
            world.done = WorkDone(2 * images, 0.0, 1.0)
            world.queue.others = [peer(images)]
            await asyncio.sleep(0.005)

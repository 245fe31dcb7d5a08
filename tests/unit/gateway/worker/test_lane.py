"""The loop of a worker with a queue without a database."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import StorageUnavailableError
from gateway.records.job_types import ItemOutcome, LeasedItem, SealedResult
from gateway.worker import lane as lane_module
from gateway.worker.backoff import Pauses
from gateway.worker.item_run import GiveBack
from gateway.worker.lane import Lane, LaneOptions
from gateway.worker.slots import Slots
from gateway.worker.state import Counters, WorkerState
from gateway.worker.upstream import Insistence
from tests.support.scripted_jobs import MemoryObjects, ScriptedQueue, ScriptedRecords, job, leased

HASTY = Pauses(first=0.001, longest=0.002)
GONE = StorageUnavailableError("records: gone")


class Runner:
    """Ends images at once, or when `go` is set; `endings` by index differ from `ok`."""

    def __init__(self) -> None:
        self.endings: dict[int, ItemOutcome | GiveBack | Exception] = {}
        self.go = asyncio.Event()
        self.go.set()
        self.started: list[int] = []
        self.cancelled: list[int] = []

    async def run(self, item: LeasedItem) -> ItemOutcome | GiveBack:
        self.started.append(item.index)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(item.index)
            raise
        ending = self.endings.get(item.index, ItemOutcome("ok", SealedResult("k", b"n", b"s")))
        if isinstance(ending, Exception):
            raise ending
        return ending


class World:
    def __init__(self, *items: LeasedItem) -> None:
        self.queue = ScriptedQueue(*items)
        self.records = ScriptedRecords(self.queue)
        self.objects = MemoryObjects({item.object_key: b"" for item in items})
        self.runner = Runner()
        self.slots = Slots(1)
        self.counters = Counters()
        self.lane = Lane(
            LaneOptions(
                slice_images=4,
                lease_seconds=30.0,
                attempts=3,
                polls=HASTY,
            ),
            self.records,  # type: ignore[arg-type]
            self.objects,  # type: ignore[arg-type]
            self.runner,  # type: ignore[arg-type]
            WorkerState("w1", ("score",), None, self.slots, self.counters),  # type: ignore[arg-type]
            Insistence(pauses=HASTY),
        )

    @asynccontextmanager
    async def working(self) -> AsyncIterator["World"]:
        task = asyncio.create_task(self.lane.run())
        try:
            async with asyncio.timeout(60):
                yield self
        finally:
            self.lane.stop()
            async with asyncio.timeout(60):
                await task


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lane_module, "_LONGEST_RENEWAL_SECONDS", 0.005)
    monkeypatch.setattr(lane_module, "_FINISH_SECONDS", 0.05)


async def test_all_images_end_once_and_their_objects_go():
    async with World(*[leased(n) for n in range(10)]).working() as world:
        await world.queue.until(10)
        await until(lambda: not world.lane.is_working)
    assert sorted(world.queue.ended) == list(range(10))
    assert world.objects.objects == {}
    assert (world.counters.ok, world.counters.failed) == (10, 0)
    assert world.queue.released == []


async def test_it_first_takes_up_what_its_killed_self_held():
    async with World().working() as world:
        await until(lambda: world.queue.claims)
    assert world.queue.taken_up == ["w1"]


async def test_images_that_failed_keep_their_objects_for_a_retry():
    world = World(leased(0), leased(1))
    world.runner.endings[1] = ItemOutcome("error", code="no_face", detail="nobody")
    async with world.working():
        await world.queue.until(2)
        await until(lambda: not world.lane.is_working)
    assert list(world.objects.objects) == ["job/000001"]
    assert (world.counters.ok, world.counters.failed) == (1, 1)


async def test_an_image_is_given_back_for_another_attempt():
    world = World(leased(0))
    world.runner.endings[0] = GiveBack(7.0, "timeout", "late")
    async with world.working():
        await world.queue.until(1)
        await until(lambda: not world.lane.is_working)
    assert (world.queue.later[0].delay_seconds, world.queue.later[0].code) == (7.0, "timeout")
    assert (world.counters.retried, world.counters.ok) == (1, 0)


async def test_only_a_few_images_are_fetched_ahead():
    world = World(*[leased(n) for n in range(8)])
    world.runner.go.clear()
    async with world.working():
        await until(lambda: len(world.runner.started) == 3)
        await asyncio.sleep(0.01)
        assert world.runner.started == [0, 1, 2]
        world.runner.go.set()
        await world.queue.until(8)


async def test_leases_are_renewed_while_images_are_held():
    world = World(leased(0))
    world.runner.go.clear()
    async with world.working():
        await until(lambda: world.queue.renewals > 2)
        world.runner.go.set()
        await world.queue.until(1)


async def test_images_of_a_cancelled_job_are_let_go():
    world = World(*[leased(n) for n in range(4)])
    world.runner.go.clear()
    async with world.working():
        await until(lambda: len(world.runner.started) == 3)
        world.queue.lost = {0, 1, 2, 3}
        await until(lambda: not world.lane.is_working)
    assert (sorted(world.runner.cancelled), world.queue.ended) == ([0, 1, 2], {})


async def test_images_of_a_paused_job_that_nobody_works_on_are_given_back():
    world = World(*[leased(n) for n in range(4)])
    world.runner.go.clear()
    async with world.working():
        await until(lambda: len(world.runner.started) == 3)
        world.records.states["job"] = "paused"
        await until(lambda: world.queue.released)
        world.runner.go.set()
        await world.queue.until(4)
    assert (world.queue.released, sorted(world.queue.ended)) == ([3], [0, 1, 2])


async def test_a_result_that_comes_too_late_is_dropped():
    world = World(leased(0))
    world.queue.lost = {0}
    async with world.working():
        await until(lambda: world.counters.dropped)
    assert (world.queue.ended, world.counters.ok) == ({}, 0)
    assert world.objects.objects, "somebody else may need it"


async def test_it_waits_for_the_database_and_goes_on(caplog):
    caplog.set_level(logging.INFO)
    world = World(*[leased(n) for n in range(6)])
    world.queue.away = GONE
    async with world.working():
        await asyncio.sleep(0.02)
        world.queue.away = None
        await until(lambda: world.queue.ended)
        world.queue.away = GONE
        await asyncio.sleep(0.02)
        world.queue.away = None
        await world.queue.until(6)
    assert sorted(world.queue.ended) == list(range(6))
    assert all(record.levelname != "ERROR" for record in caplog.records)


async def test_a_stop_gives_back_what_is_held():
    world = World(*[leased(n) for n in range(4)])
    world.runner.go.clear()
    async with world.working():
        await until(lambda: len(world.runner.started) == 3)
    assert sorted(world.queue.released) == [0, 1, 2, 3]
    assert sorted(world.runner.cancelled) == [0, 1, 2]


async def test_a_stop_lets_images_end_that_are_about_to():
    world = World(leased(0), leased(1))
    world.runner.go.clear()
    async with world.working():
        await until(lambda: len(world.runner.started) == 2)
        world.lane.stop()
        await asyncio.sleep(0.01)
        world.runner.go.set()
    assert (sorted(world.queue.ended), world.queue.released) == ([0, 1], [])


async def test_a_stop_does_not_wait_for_the_database(caplog):
    world = World(*[leased(n) for n in range(4)])
    world.runner.go.clear()
    async with world.working():
        await until(lambda: len(world.runner.started) == 3)
        world.queue.away = GONE
    assert "images were not given back" in caplog.text


async def test_a_stop_before_the_database_ever_answered():
    world = World()
    world.queue.away = GONE
    async with world.working():
        await asyncio.sleep(0.01)
    assert world.queue.claims == 0


async def test_an_image_that_could_not_be_written_does_not_stop_the_others(caplog):
    world = World(leased(0), leased(1))
    world.runner.endings[0] = ZeroDivisionError()
    async with world.working():
        await world.queue.until(1)
        await until(lambda: not world.lane.is_working)
    assert list(world.queue.ended) == [1]
    assert "an image was not written" in caplog.text


async def test_a_result_that_cannot_be_stored_is_an_image_that_failed(caplog):
    world = World(leased(0), leased(1))
    world.queue.refused.add(0)
    async with world.working():
        await world.queue.until(1)
        await until(lambda: not world.lane.is_working)
    assert list(world.queue.ended) == [1]
    assert list(world.objects.objects) == ["job/000000"], "it may be repeated"
    assert (world.counters.ok, world.counters.failed, world.counters.dropped) == (1, 1, 0)
    assert "a result could not be stored" in caplog.text


async def test_the_slices_of_other_jobs_follow():
    other = job(job_id="other")
    async with World(leased(0), leased(1, of=other)).working() as world:
        await world.queue.until(2)
    assert sorted(world.queue.ended) == [0, 1]


async def test_answers_in_hand_are_written_when_the_database_is_back():
    world = World(*[leased(n) for n in range(3)])
    world.runner.go.clear()
    async with world.working():
        await until(lambda: len(world.runner.started) == 3)
        world.queue.away = GONE
        world.runner.go.set()
        await asyncio.sleep(0.02)
        assert (world.queue.ended, world.lane.is_working) == ({}, True)
        world.queue.away = None
        await world.queue.until(3)
    assert world.runner.started == [0, 1, 2]

"""Which engine answers, and when Triton is asked again."""

import asyncio
import zlib

import pytest

from gateway.concurrency import AdmissionControl, BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    InferenceUnavailableError,
    InvalidImageError,
    RequestTimeoutError,
)
from gateway.inference import failover
from gateway.inference.failover import FailoverInference
from gateway.types import Need
from tests.support.fake_inference import FakeFallback, FakeInference, photo
from triton_python_backend.contract import Look

AWAY = InferenceUnavailableError("away")


class World:
    """Both engines, and what the circuit of Triton was seen to do."""

    def __init__(self, *, fallback=True, limit=8):
        self.triton = FakeInference()
        self.fallback = FakeFallback() if fallback else None
        self.states = []
        self.admission = AdmissionControl(limit)
        self.engine = FailoverInference(
            self.triton, self.fallback, admission=self.admission, observer=self.states.append
        )

    async def ask(self, seconds=10.0, **more):
        deadline = Deadline.after(seconds)
        return await self.engine.analyse(photo(), need=Need.EMBEDDING, deadline=deadline, **more)

    async def open(self):
        self.triton.error = AWAY
        for _ in range(3):
            await self.ask()
        assert self.states == [True]


async def test_triton_answers_while_it_can():
    world = World()
    assert (await world.ask()).engine == "triton"
    assert world.fallback.needs == []


async def test_the_first_request_after_triton_died_is_answered():
    world = World()
    world.triton.error = AWAY
    answer = await world.ask()
    assert (answer.engine, len(answer.faces)) == ("fallback", 1)
    assert world.states == []


async def test_after_a_few_failures_requests_go_to_the_fallback_at_once():
    world = World()
    await world.open()
    asked = len(world.triton.needs)
    assert (await world.ask()).engine == "fallback"
    assert len(world.triton.needs) == asked


@pytest.mark.parametrize("error", [InvalidImageError("cut off"), AurumError("bug")])
async def test_no_other_engine_is_asked_about_a_bad_image_or_after_a_bug(error):
    world = World()
    world.triton.error = error
    for _ in range(4):
        with pytest.raises(type(error)):
            await world.ask()
    assert world.fallback.needs == []
    assert world.states == []


async def test_a_triton_that_hangs_leaves_time_for_the_fallback(monkeypatch):
    monkeypatch.setattr(failover, "_LEAST_SECONDS", 0.01)
    world = World()
    world.triton.seconds = 60
    world.triton.obeys_deadlines = True
    for _ in range(3):
        assert (await world.ask(0.5)).engine == "fallback"
    assert world.states == [True]


async def test_with_little_time_left_triton_gets_all_of_it_and_is_not_blamed():
    world = World()
    world.triton.seconds = 60
    world.triton.obeys_deadlines = True
    for _ in range(4):
        with pytest.raises(RequestTimeoutError):
            await world.ask(0.05)
    assert world.states == []


async def test_a_search_for_small_faces_has_all_of_its_time():
    world = World()
    await world.ask(10.0, look=Look(detail="high"))
    await world.ask(10.0)
    high, standard = world.triton.seconds_left
    assert high > 9
    assert 5 < standard <= 6


async def test_without_a_fallback_requests_are_refused_while_triton_is_away():
    world = World(fallback=False)
    world.triton.error = AWAY
    for _ in range(3):
        with pytest.raises(InferenceUnavailableError):
            await world.ask()
    asked = len(world.triton.needs)
    with pytest.raises(InferenceUnavailableError) as refusal:
        await world.ask()
    assert len(world.triton.needs) == asked
    assert refusal.value.retry_after_seconds


async def test_the_slower_engine_refuses_what_it_would_not_reach():
    world = World(limit=2)
    world.fallback.seconds = 60
    world.triton.error = AWAY
    waiting = [asyncio.create_task(world.ask()) for _ in range(2)]
    while world.fallback.active < 2:
        await asyncio.sleep(0.01)
    with pytest.raises(InferenceUnavailableError) as refusal:
        await world.ask()
    assert refusal.value.retry_after_seconds
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_requests_go_back_once_triton_answers_a_probe(monkeypatch):
    monkeypatch.setattr(failover, "_PROBE_INTERVAL_SECONDS", 0.01)
    world = World()
    await world.open()
    async with BackgroundTasks() as tasks:
        tasks.keep("probe", world.engine.keep_probing)
        probes = len(world.triton.needs)
        while len(world.triton.needs) < probes + 2:
            await asyncio.sleep(0.01)
        assert world.states == [True]
        # its stages are not loaded yet: it is not asked about an image
        world.triton.unready.add("face_embedding")
        world.triton.error = None
        await asyncio.sleep(0.05)
        assert world.states == [True]
        world.triton.unready.clear()
        while world.states == [True]:
            await asyncio.sleep(0.01)
    assert world.states == [True, False]
    assert (await world.ask()).engine == "triton"


def test_the_probe_is_an_image_without_a_face():
    name, length = failover._BLANK[1:4], int.from_bytes(failover._BLANK[33:37], "big")
    assert name == b"PNG"
    assert len(zlib.decompress(failover._BLANK[41 : 41 + length])) == 65 * 64


async def test_the_fallback_is_told_which_weights_are_active():
    world = World()
    answer = await world.ask()
    assert world.fallback.preferred == dict(answer.weights)
    active = await world.engine.in_service(deadline=Deadline.after(5))
    assert world.fallback.preferred == dict(active)


async def test_the_weights_in_service_are_those_of_the_engine_that_answers():
    world = World()
    await world.open()
    assert await world.engine.in_service(
        deadline=Deadline.after(5)
    ) == await world.fallback.in_service(deadline=Deadline.after(5))


async def test_status_is_that_of_triton_and_says_whether_the_fallback_answers():
    world = World()
    status = await world.engine.status(deadline=Deadline.after(5))
    assert (status.ready, status.fallback.answers) == (True, True)
    assert "starts when" in status.fallback.detail
    world.triton.reachable = False
    status = await world.engine.status(deadline=Deadline.after(5))
    assert (status.ready, status.fallback.answers) == (False, True)
    world.fallback.reachable = False
    status = await world.engine.status(deadline=Deadline.after(5))
    assert (status.ready, status.fallback.answers) == (False, False)


async def test_a_triton_that_is_back_is_ready_at_once():
    world = World()
    await world.open()
    status = await world.engine.status(deadline=Deadline.after(5))
    assert not status.ready
    world.triton.error = None
    status = await world.engine.status(deadline=Deadline.after(5))
    assert status.ready
    assert world.states == [True, False]

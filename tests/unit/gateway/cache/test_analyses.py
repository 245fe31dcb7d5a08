"""`get_or_compute`: one method for lookup, single flight, computing, keeping and metrics."""

import asyncio
from dataclasses import replace

import pytest

from gateway.cache.active_weights import ActiveWeights
from gateway.cache.analyses import AnalysisCache, NoCache
from gateway.cache.memory import MemoryCache
from gateway.deadline import Deadline
from gateway.errors import InvalidImageError, RequestTimeoutError
from gateway.telemetry.metrics import Metrics
from gateway.types import Asked, Need
from tests.support.fake_candidate import candidate
from tests.support.fake_inference import FakeInference, photo
from triton_python_backend.contract import Look

ASKED = Asked(Need.EMBEDDING)


class World:
    """A cache in memory in front of an engine."""

    def __init__(self) -> None:
        self.engine, self.metrics = FakeInference(), Metrics()
        self.active = ActiveWeights(self.engine)
        self.cache = AnalysisCache(
            memory=MemoryCache(max_bytes=10**7, ttl_seconds=60),
            redis=None,
            active_weights=self.active,
            metrics=self.metrics,
            release="1",
            max_entry_bytes=10**6,
        )

    async def ask(self, *, asked=ASKED, tenant="t", seconds=5.0, compute=None, tried=None):
        async def analyse(deadline):
            return await self.engine.analyse(
                photo(faces=2), need=asked.need, deadline=deadline, look=asked.look
            )

        return await self.cache.get_or_compute(
            "a" * 64,
            compute or analyse,
            asked=asked,
            tenant=tenant,
            deadline=Deadline.after(seconds),
            candidate=tried,
        )

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0


@pytest.fixture
async def world():
    found = World()
    await found.active.refresh()
    return found


async def test_the_second_answer_is_the_first_and_counted(world):
    computed, cached = await world.ask()
    again, cached_again = await world.ask()
    assert (cached, cached_again) == (False, True)
    assert again.weights == computed.weights
    assert [face.box for face in again.faces] == [face.box for face in computed.faces]
    lookups = "aurum_cache_lookups_total"
    assert world.value(lookups, layer="memory", outcome="miss") == 1
    assert world.value(lookups, layer="memory", outcome="hit") == 1
    assert world.value("aurum_cache_writes_total", layer="memory", outcome="kept") == 1


async def test_tenants_looks_and_candidates_have_answers_of_their_own(world):
    await world.ask()
    for other in (
        {"tenant": "other"},
        {"asked": Asked(Need.EMBEDDING, Look(rotation="off"))},
        {"tried": candidate(identifier="e" * 16)},
    ):
        assert not (await world.ask(**other))[1], other
        assert (await world.ask())[1]


async def test_requests_at_once_share_one_computation(world):
    world.engine.seconds = 0.05
    answers = await asyncio.gather(*(world.ask() for _ in range(4)))
    assert len(world.engine.needs) == 1
    assert len({id(analysis) for analysis, _ in answers}) == 1
    assert world.value("aurum_shared_flights_total") == 3


async def test_one_that_joined_and_has_time_left_computes_itself(world):
    world.engine.seconds = 0.15
    first = asyncio.create_task(world.ask(seconds=0.05))
    await world.engine.started.wait()
    second = asyncio.create_task(world.ask())
    with pytest.raises(RequestTimeoutError):
        await first
    assert (await second)[1] is False


async def test_errors_are_shared_but_not_kept(world):
    async def refuse(deadline):
        raise InvalidImageError("no")

    with pytest.raises(InvalidImageError):
        await world.ask(compute=refuse)
    assert (await world.ask())[1] is False


async def test_answers_of_another_engine_are_not_kept(world):
    answer, _ = await world.ask()

    async def elsewhere(deadline):
        return replace(answer, engine="local")

    await world.ask(tenant="other", compute=elsewhere)
    assert (await world.ask(tenant="other"))[1] is False


async def test_answers_of_the_fallback_are_kept_under_its_weights_and_say_so(world):
    answer, _ = await world.ask()

    async def by_fallback(deadline):
        return replace(answer, engine="fallback")

    computed, cached = await world.ask(tenant="other", compute=by_fallback)
    assert (computed.engine, cached) == ("fallback", False)
    again, cached = await world.ask(tenant="other")
    assert (again.engine, cached) == ("fallback", True)
    assert again.weights == computed.weights

    async def by_other_weights(deadline):
        embedding = replace(answer.weights["face_embedding"], id="a" * 16)
        weights = {**answer.weights, "face_embedding": embedding}
        return replace(answer, engine="fallback", weights=weights)

    await world.ask(tenant="third", compute=by_other_weights)
    # it lies where the weights that made it place it, not where those in service do
    await world.active.refresh()
    assert (await world.ask(tenant="third"))[1] is False


async def test_without_a_cache_every_answer_is_computed():
    world = World()
    world.cache = NoCache()
    assert [(await world.ask())[1] for _ in range(2)] == [False, False]
    assert len(world.engine.needs) == 2

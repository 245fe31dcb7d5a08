"""Keys, values, the memory bound, the circuit breaker, single flight and active weights."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import codec, keys
from gateway.cache.active_weights import ActiveWeights
from gateway.cache.memory import MemoryCache
from gateway.cache.single_flight import SingleFlight
from gateway.deadline import Deadline
from gateway.types import Need, Weights
from tests.support.fake_inference import FakeInference, expected_face, photo
from triton_python_backend.contract import DEFAULT_LOOK, Look

EVERYTHING = Need.EMBEDDING | Need.SCORE | Need.CROPS
NEEDS = [Need(value) for value in range(EVERYTHING.value + 1)]
SERVED = {
    "face_detection": Weights("d", "1"),
    "face_embedding": Weights("e", "1"),
    "face_scoring": Weights("h", "1"),
}
IMAGE = "a" * 64


def name(need=EVERYTHING, weights=SERVED, tenant="t", release="1.0", look=DEFAULT_LOOK):
    return keys.field(release=release, tenant=tenant, need=need, weights=weights, look=look)


def test_a_key_contains_everything_that_an_answer_depends_on():
    others = [
        *(name(weights={**SERVED, stage: Weights("x", "1")}) for stage in SERVED),
        name(tenant="other"),
        name(release="1.1"),
        name(look=Look(rotation="off")),
        name(look=Look(detail="high")),
        *(name(need) for need in NEEDS),
    ]
    assert len(set(others)) == len(others)


def test_the_number_of_faces_is_not_part_of_the_key():
    assert name(look=Look(max_faces=5)) == name()


def test_weights_that_an_answer_does_not_take_do_not_part_it():
    other = {"face_detection": SERVED["face_detection"], "face_scoring": Weights("x", "1")}
    assert name(Need.CROPS, other) == name(Need.CROPS)
    assert name(Need.EMBEDDING, other) is None


@pytest.mark.parametrize("need", NEEDS)
def test_an_answer_with_more_outputs_suffices(need):
    found = keys.sufficient(need)
    assert found[0] == need
    assert set(found) == {each for each in NEEDS if need in each}


@given(
    need=st.sampled_from(NEEDS),
    more=st.sampled_from(NEEDS),
    count=st.integers(0, 4),
    nan=st.booleans(),
)
def test_faces_are_read_back_unchanged_with_the_needed_outputs(need, more, count, nan):
    kept = [expected_face(index, 1, need | more) for index in range(count)]
    wanted = [expected_face(index, 1, need) for index in range(count)]
    if nan:
        kept = [face.with_outputs(score=float("nan")) if face.score else face for face in kept]
        wanted = [face.with_outputs(score=float("nan")) if face.score else face for face in wanted]
    value = codec.encode(tuple(kept), image=IMAGE, field="f")
    assert codec.is_sound(value, image=IMAGE, field="f")
    for face, expected in zip(codec.decode(value, need=need).faces, wanted, strict=True):
        assert face.box == tuple(expected.box)
        assert face.landmarks == expected.landmarks
        assert (face.confidence, face.quality) == (expected.confidence, expected.quality)
        assert repr(face.score) == repr(None if expected.score is None else float(expected.score))
        for found, array in ((face.embedding, expected.embedding), (face.crop, expected.crop)):
            assert (found is None) == (array is None)
            if found is not None:
                np.testing.assert_array_equal(found, array)
                assert found.dtype == array.dtype


def test_faces_found_and_rotation_are_read_back():
    face = expected_face(0, 0, EVERYTHING)
    value = codec.encode((face,), image=IMAGE, field="f", beyond=(0.75, 0.5), rotation=270)
    kept = codec.decode(value, need=Need.NOTHING_MORE)
    assert (kept.beyond, kept.rotation) == ((0.75, 0.5), 270)


VALUE = codec.encode((expected_face(0, 0, EVERYTHING),), image=IMAGE, field="f")


@given(
    cut=st.integers(0, len(VALUE) - 1), position=st.integers(0, len(VALUE) - 1), garbage=st.binary()
)
def test_truncated_changed_or_foreign_values_are_not_sound(cut, position, garbage):
    changed = bytearray(VALUE)
    changed[position] ^= 1
    for value in (VALUE[:cut], bytes(changed), garbage):
        assert not codec.is_sound(value, image=IMAGE, field="f")
    assert not codec.is_sound(VALUE, image="b" * 64, field="f")
    assert not codec.is_sound(VALUE, image=IMAGE, field="g")


@given(st.binary())
def test_garbage_is_malformed(garbage):
    try:
        kept = codec.decode(garbage, need=EVERYTHING)
    except codec.MalformedError:
        return
    assert kept.faces == ()


async def test_memory_stays_within_its_bytes_and_drops_the_least_recently_used():
    evicted = []
    cache = MemoryCache(max_bytes=10_000, ttl_seconds=60, on_eviction=lambda: evicted.append(1))
    await cache.set("first", "f", bytes(2000))
    for number in range(20):
        await cache.set(str(number), "f", bytes(2000))
        assert await cache.get("first", ["f"])
        assert cache.size_bytes <= 10_000
    assert await cache.get("19", ["f"])
    assert not await cache.get("1", ["f"])
    assert len(evicted) == 21 - 3
    await cache.set("huge", "f", bytes(20_000))
    assert not await cache.get("huge", ["f"])
    assert await cache.get("first", ["f"])


class Work:
    def __init__(self):
        self.runs = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self.error = None

    async def __call__(self):
        self.runs += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return self.runs


async def join(single_flight, work, count):
    tasks = [asyncio.create_task(single_flight.share("key", work)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_simultaneous_identical_work_runs_once():
    single_flight, work = SingleFlight(), Work()
    tasks = await join(single_flight, work, 5)
    work.go.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert await single_flight.share("key", work) == 2
    assert len(single_flight) == 0


async def test_a_cancelled_waiter_cancels_no_other_waiter():
    single_flight, work = SingleFlight(), Work()
    tasks = await join(single_flight, work, 3)
    tasks[0].cancel()
    await asyncio.sleep(0)
    work.go.set()
    assert await asyncio.gather(*tasks[1:]) == [1, 1]
    assert work.cancelled == 0


async def test_work_without_waiters_is_cancelled():
    single_flight, work = SingleFlight(), Work()
    tasks = await join(single_flight, work, 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert (work.cancelled, len(single_flight)) == (1, 0)


async def test_errors_are_shared_and_not_stored():
    single_flight, work = SingleFlight(), Work()
    work.error = ValueError("no")
    tasks = await join(single_flight, work, 3)
    work.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, ValueError) for result in results)
    work.error = None
    assert await single_flight.share("key", work) == 2


async def analysis_of(fake):
    return await fake.analyse(photo(), need=EVERYTHING, deadline=Deadline.after(5))


async def test_an_answer_of_other_weights_invalidates_the_active_ones_until_they_are_listed():
    fake = FakeInference()
    active_weights = ActiveWeights(fake)
    await active_weights.refresh()
    active_weights.compare(await analysis_of(fake))
    assert active_weights.now is not None
    fake.space = "0" * 16
    active_weights.compare(await analysis_of(fake))
    assert active_weights.now is None
    await asyncio.wait_for(active_weights.wait(), 60)
    await active_weights.refresh()
    assert active_weights.now["face_embedding"].id == "0" * 16


async def test_a_listing_older_than_an_answer_is_ignored():
    fake = FakeInference()
    active_weights = ActiveWeights(fake)
    await active_weights.refresh()
    before, fake.space = await fake.in_service(deadline=Deadline.after(5)), "0" * 16
    newer = await analysis_of(fake)

    async def listed_before(*, deadline):
        active_weights.compare(newer)
        return before

    fake.in_service = listed_before
    await active_weights.refresh()
    assert active_weights.now is None


async def test_the_active_weights_are_kept_while_the_engine_is_away():
    fake = FakeInference()
    active_weights = ActiveWeights(fake)
    await active_weights.refresh()
    fake.reachable = False
    await active_weights.refresh()
    assert active_weights.now is not None

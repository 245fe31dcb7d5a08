"""Contract of the stores that count what callers use, in memory and on a real Redis server."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.redis import ResponseError
from gateway.security.limits.base import LimitSet, Policy
from gateway.security.limits.memory import MemoryLimits
from gateway.security.limits.meter import TICKS, Bucket
from gateway.security.limits.redis import RedisLimits, _keys
from tests.support import redis

# so slow that nothing is paid back during a test
SLOW = LimitSet(Bucket(1, 3), Bucket(1, 5000), 2)
EVERYTHING = frozenset(Policy)


@pytest.fixture(scope="module")
def redis_url():
    with redis.server() as (url, _):
        yield url


@pytest.fixture(params=["memory", "redis"])
async def stores(request):
    """Make stores; those of Redis share what they count."""
    made = []

    def make(lease_seconds=30.0):
        if request.param == "memory":
            made.append(MemoryLimits(lease_seconds=lease_seconds))
        else:
            url = request.getfixturevalue("redis_url")
            made.append(RedisLimits(url, timeout_seconds=20, lease_seconds=lease_seconds))
        return made[-1]

    yield make
    for store in made:
        if isinstance(store, RedisLimits):
            await store._client.flushall()
            await store.close()


def ask(store, limits=SLOW, account="key:a", lease="l1", with_images=True):
    return store.admit(account, limits, lease=lease, with_images=with_images)


async def test_requests_up_to_the_burst(stores):
    store = stores()
    limits = LimitSet(Bucket(1, 3))
    for number in (1, 2, 3):
        counts = await ask(store, limits)
        assert (number - 0.5) * TICKS < counts.requests <= number * TICKS
        assert not counts.refused
    counts = await ask(store, limits)
    assert counts.refused == {Policy.REQUESTS}
    # what is refused is not counted
    assert (await ask(store, limits)).requests <= 3 * TICKS


async def test_accounts_do_not_share(stores):
    store = stores()
    limits = LimitSet(Bucket(1, 1), None, 1)
    assert not (await ask(store, limits, "key:a", "a1")).refused
    assert (await ask(store, limits, "key:a", "a2")).refused == {
        Policy.REQUESTS,
        Policy.CONCURRENT,
    }
    assert not (await ask(store, limits, "key:b", "b1")).refused


async def test_time_pays_back(stores):
    store = stores()
    # a request takes 10 ms
    limits = LimitSet(Bucket(6000, 1))
    assert not (await ask(store, limits)).refused
    # refused, if the machine does not stall meanwhile: then there is another debt to wait for
    counts = await ask(store, limits)
    await asyncio.sleep(limits.requests.wait_microseconds(counts.requests, 1) / 1e6)
    assert not (await ask(store, limits)).refused


async def test_pixels_lead_into_debt_that_only_requests_with_images_see(stores):
    store = stores()
    assert not (await ask(store)).refused
    counts = await store.charge("key:a", SLOW, 4999)
    assert counts.pixels <= 4999 * TICKS
    assert counts.taken == 1
    assert not (await ask(store, lease="l2")).refused
    counts = await store.charge("key:a", SLOW, 10_000)
    assert 14_998 * TICKS < counts.pixels <= 14_999 * TICKS
    await store.release("key:a", "l2")
    assert (await ask(store, lease="l3")).refused == {Policy.MEGAPIXELS}
    counts = await ask(store, lease="l3", with_images=False)
    assert not counts.refused
    assert counts.pixels > 14_998 * TICKS
    # all that refuses is named
    assert (await ask(store, lease="l4")).refused == EVERYTHING


async def test_the_place_of_a_stream_and_the_debts_of_its_messages_are_apart(stores):
    store = stores()
    place, work = LimitSet(concurrent=1), LimitSet(Bucket(1, 2))
    assert not (await ask(store, place, lease="s")).refused
    for _ in range(2):
        assert not (await ask(store, work)).refused
    assert (await ask(store, work)).refused == {Policy.REQUESTS}
    for lease in ("s", "t"):
        assert (await ask(store, place, lease="u")).refused == {Policy.CONCURRENT}
        await store.release("key:a", lease)
        # what is forgotten here owes nothing
        await store.renew({})
        if lease == "s":
            assert not (await ask(store, place, lease="t")).refused
    assert (await ask(store, work)).refused == {Policy.REQUESTS}


async def test_a_lease_is_held_until_it_is_released(stores):
    store = stores()
    limits = LimitSet(concurrent=2)
    assert (await ask(store, limits, lease="l1")).taken == 1
    assert (await ask(store, limits, lease="l2")).taken == 2
    refused = await ask(store, limits, lease="l3")
    assert (refused.taken, refused.refused) == (2, {Policy.CONCURRENT})
    await store.release("key:a", "l1")
    await store.release("key:a", "unknown")
    await store.release("key:nobody", "l2")
    assert (await ask(store, limits, lease="l3")).taken == 2


async def test_a_lease_that_nobody_renews_ends(stores):
    # of a gateway that was killed; long enough for a machine that stalls for a moment
    store = stores(lease_seconds=1.5)
    limits = LimitSet(concurrent=2)
    # another gateway goes on
    assert not (await ask(store, limits, lease="other")).refused
    assert not (await ask(store, limits, lease="l1")).refused
    assert (await ask(store, limits, lease="l2")).refused
    started = time.monotonic()
    while (await ask(store, limits, lease="l2")).refused:
        assert time.monotonic() - started < 60
        await store.renew({"other": "key:a"})
        await asyncio.sleep(0.02)
    assert time.monotonic() - started > 0.3


async def test_a_lease_that_is_renewed_stays(stores):
    store = stores(lease_seconds=2.0)
    limits = LimitSet(concurrent=2)
    held = {"l1": "key:a", "l2": "key:a"}
    for lease in held:
        await ask(store, limits, lease=lease)
    ends = time.monotonic() + 2.3
    while time.monotonic() < ends:
        await store.renew({**held, "other": "key:b"})
        assert (await ask(store, limits, lease="l3")).refused
        await asyncio.sleep(0.1)
    await store.release("key:a", "l1")
    # what was released does not come back
    await store.renew(held)
    assert (await ask(store, limits, lease="l3")).taken == 2


async def test_many_at_once_get_no_more_than_there_is(stores):
    # two gateways where they share a Redis
    one, two = stores(), stores()
    limits = LimitSet(Bucket(1, 40), None, 30)
    found = await asyncio.gather(
        *(ask(one, limits, lease=f"one-{number}") for number in range(40)),
        *(ask(two, limits, lease=f"two-{number}") for number in range(40)),
    )
    admitted = sum(not counts.refused for counts in found)
    assert admitted == (60 if isinstance(one, MemoryLimits) else 30)


async def test_a_rate_that_changes_keeps_the_debt(stores):
    store = stores()
    await ask(store, LimitSet(Bucket(1, 3)))
    await ask(store, LimitSet(Bucket(1, 3)))
    assert (await ask(store, LimitSet(Bucket(1, 2)))).refused
    assert not (await ask(store, LimitSet(Bucket(2, 5)))).refused


@settings(max_examples=25, deadline=None)
@given(
    rate=st.integers(1, 1_000_000),
    burst=st.integers(1, 1_000_000),
    pixels=st.lists(st.integers(1, 20_000_000), min_size=1, max_size=6),
)
async def test_the_script_counts_as_the_meter_does(redis_url, rate, burst, pixels):
    """To the tick, with large numbers and with the times that Redis took."""
    store = RedisLimits(redis_url, timeout_seconds=20)
    limits = LimitSet(Bucket(rate, burst), Bucket(rate, burst))
    try:
        await store._client.flushall()
        before = [0, 0, 0, 0]
        for kilopixels in pixels:
            counts = await store.admit("a", limits, lease="", with_images=True)
            after = await kept(store) if not counts.refused else before
            if not counts.refused:
                debt = limits.requests.drain(before[0], after[1] - (before[1] or after[1]))
                assert limits.requests.admits(debt, 1)
                assert counts.requests == after[0] == debt + TICKS
            charged = await store.charge("a", limits, kilopixels)
            before = await kept(store)
            debt = limits.pixels.drain(after[2], before[3] - (after[3] or before[3]))
            assert charged.pixels == before[2] == debt + kilopixels * TICKS
    finally:
        await store.close()


async def kept(store):
    names = ("requests", "requests_at", "pixels", "pixels_at")
    return [int(value or 0) for value in await store._client.hmget(_keys("a")[0], names)]


async def test_what_is_paid_back_leaves_nothing_in_redis(redis_url):
    store = RedisLimits(redis_url, timeout_seconds=20, lease_seconds=0.5)
    # a request is paid back in 60 microseconds
    limits = LimitSet(Bucket(1_000_000, 5), None, 3)
    try:
        await store._client.flushall()
        await ask(store, limits)
        assert await store._client.dbsize() == 2
        for name in await store._client.keys():
            assert 0 < await store._client.pttl(name) <= 1100
            # names a key by its id, never by its secret
            assert name.startswith(b"aurum:limits:{key:a}:")
    finally:
        await store.close()


async def test_a_foreign_value_under_the_key_is_an_error(redis_url):
    store = RedisLimits(redis_url, timeout_seconds=20)
    try:
        await store._client.set(_keys("key:a")[0], b"text")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await ask(store)
    finally:
        await store._client.flushall()
        await store.close()

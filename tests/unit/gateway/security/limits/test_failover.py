"""Counting in this process while Redis does not answer."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.circuit_breaker import CircuitBreaker
from gateway.redis import RedisError, ResponseError
from gateway.security.limits.base import LimitSet, Policy
from gateway.security.limits.failover import FailoverLimits
from gateway.security.limits.memory import MemoryLimits
from gateway.security.limits.meter import Bucket
from gateway.telemetry.limit_metrics import LimitMetrics

LIMITS = LimitSet(Bucket(1, 2), Bucket(1, 1000), 2)


class Shared(MemoryLimits):
    """A store that may be away."""

    def __init__(self):
        super().__init__()
        self.fault = None
        self.calls = 0

    async def admit(self, account, limits, *, lease, with_images):
        await self._stumble()
        return await super().admit(account, limits, lease=lease, with_images=with_images)

    async def charge(self, account, limits, kilopixels):
        await self._stumble()
        return await super().charge(account, limits, kilopixels)

    async def release(self, account, lease):
        await self._stumble()
        await super().release(account, lease)

    async def renew(self, leases):
        await self._stumble()
        await super().renew(leases)

    async def _stumble(self):
        self.calls += 1
        if self.fault == "hangs":
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def world():
    now = [0.0]
    shared, own = Shared(), MemoryLimits()
    metrics = LimitMetrics(CollectorRegistry())
    breaker = CircuitBreaker(retry_seconds=1.0, clock=lambda: now[0])
    store = FailoverLimits(shared, own, metrics, timeout_seconds=0.01, breaker=breaker)

    def checks(where):
        return metrics.checks.labels(where)._value.get()

    return store, shared, now, checks


async def ask(store, lease="l"):
    return await store.admit("a", LIMITS, lease=lease, with_images=True)


FAULTS = ["hangs", RedisError("no"), ConnectionResetError(), ValueError("garbage")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: type(each).__name__)
async def test_a_redis_that_fails_is_replaced_and_found_again(world, fault):
    store, shared, now, checks = world
    await ask(store, "l1")
    assert (checks("redis"), checks("memory")) == (1, 0)
    shared.fault = fault
    # this process goes on from what it knows
    counts = await ask(store, "m1")
    assert (counts.refused, counts.taken) == (frozenset(), 2)
    assert (await ask(store, "m2")).refused == {Policy.REQUESTS, Policy.CONCURRENT}
    assert (await ask(store, "m3")).refused
    calls = shared.calls
    assert (await ask(store, "m3")).refused
    assert shared.calls == calls, "the circuit is open"
    shared.fault = None
    now[0] += 1.0
    assert (await ask(store, "l2")).taken == 2
    assert (checks("redis"), checks("memory")) == (2, 4)


async def test_a_command_that_redis_refuses_does_not_open_the_circuit(world):
    store, shared, _, _ = world
    shared.fault = ResponseError("OOM command not allowed")
    for _ in range(5):
        await ask(store)
    assert shared.calls == 5


async def test_leases_are_given_back_where_they_were_taken(world):
    store, shared, now, _ = world
    await ask(store, "l1")
    shared.fault = RedisError("away")
    await ask(store, "m1")
    await store.charge("a", LIMITS, 5000)
    everything = {Policy.REQUESTS, Policy.MEGAPIXELS, Policy.CONCURRENT}
    assert (await ask(store, "m2")).refused == everything
    await store.renew({"l1": "a", "m1": "a"})
    await store.release("a", "m1")
    # the one that Redis gave is known here, too
    assert (await store.charge("a", LIMITS, 1)).taken == 1
    await store.release("a", "l1")
    assert (await store.charge("a", LIMITS, 1)).taken == 0
    shared.fault = None
    now[0] += 1.0
    # Redis could not be told of the release: it ends there by itself
    counts = await ask(store, "l2")
    assert (counts.taken, counts.refused) == (2, frozenset())
    await store.renew({"l2": "a"})
    await store.release("a", "l2")
    assert (await store.charge("a", LIMITS, 1)).taken == 1


async def test_a_debt_that_redis_counted_is_known_when_it_is_away(world):
    store, shared, _, _ = world
    await store.charge("a", LIMITS, 5000)
    shared.fault = RedisError("away")
    assert (await ask(store)).refused == {Policy.MEGAPIXELS}


async def test_many_at_once_do_not_look_like_a_slow_redis(world):
    store, shared, _, checks = world
    store._timeout_seconds = 20
    busy, most = 0, 0

    async def slow():
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.001)
        busy -= 1

    shared._stumble = slow
    await asyncio.gather(*(ask(store, str(number)) for number in range(400)))
    assert (checks("redis"), checks("memory")) == (400, 0)
    assert most <= 16


async def test_many_at_once_do_not_wait_one_after_another_for_a_redis_that_hangs(world):
    store, shared, _, checks = world
    shared.fault = "hangs"
    await asyncio.gather(*(ask(store, str(number)) for number in range(400)))
    assert checks("memory") == 400
    assert shared.calls == 16

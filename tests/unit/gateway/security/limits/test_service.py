"""What callers are told about their limits, and what they hold."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.concurrency import BackgroundTasks
from gateway.security.limits.base import OverLimitError, Policy, limit_set
from gateway.security.limits.fields import rate_limit_fields
from gateway.security.limits.memory import MemoryLimits
from gateway.security.limits.meter import Bucket
from gateway.security.limits.service import Limits
from gateway.telemetry.limit_metrics import LimitMetrics
from gateway.types import NO_RATE_LIMITS, Caller, RateLimits

SECOND = 1_000_000
CALLER = Caller("acme", "key:a", account="key:a")


class World:
    """Limits of a clock that stands still."""

    def __init__(self, defaults):
        self.now = 0
        self.store = MemoryLimits(clock=lambda: self.now)
        self.metrics = LimitMetrics(CollectorRegistry())
        self.limits = Limits(defaults, self.store, BackgroundTasks(), self.metrics)

    async def send(self, caller=CALLER, pixels=0):
        """Send a request that ends at once; returns its fields."""
        async with self.limits.admit(caller, with_images=True) as admission:
            await admission.charge_pixels(pixels)
            return rate_limit_fields(admission.standing)

    async def refuse(self, caller=CALLER):
        with pytest.raises(OverLimitError) as caught:
            await self.send(caller)
        return caught.value


async def test_fields_of_requests():
    world = World(RateLimits(requests_per_minute=60))
    fields = await world.send()
    assert fields == {
        "RateLimit-Policy": '"requests";q=60;w=60',
        "RateLimit": '"requests";r=59;t=1',
    }
    for _ in range(29):
        fields = await world.send()
    # half of it is left, and whole again after half a minute
    assert fields["RateLimit"] == '"requests";r=30;t=30'


async def test_a_burst_that_is_used_up():
    world = World(RateLimits(requests_per_minute=6, burst=2))
    await world.send()
    fields = await world.send()
    assert fields["RateLimit-Policy"] == '"requests";q=6;w=60;aurum-burst=2'
    # nothing is left: when there is one again
    assert fields["RateLimit"] == '"requests";r=0;t=10'
    world.now += 9 * SECOND
    refused = await world.refuse()
    assert refused.detail == "this key or token may have 6 requests a minute and 2 at once"
    assert refused.retry_after_seconds == 1
    assert refused.policies == ("requests",)
    assert rate_limit_fields(refused.standing)["RateLimit"] == '"requests";r=0;t=1'
    assert world.metrics.refused.labels("requests")._value.get() == 1
    world.now += SECOND
    await world.send()


async def test_megapixels_and_their_debt():
    world = World(RateLimits(megapixels_per_minute=30))
    fields = await world.send(pixels=10_000_001)
    # rounded up to kilopixels
    assert fields == {
        "RateLimit-Policy": '"megapixels";q=30;qu="megapixels";w=60',
        "RateLimit": '"megapixels";r=19;t=21',
    }
    fields = await world.send(pixels=40_000_000)
    # 20.001 megapixels of debt, and one more to send
    assert fields["RateLimit"] == '"megapixels";r=0;t=43'
    refused = await world.refuse()
    assert refused.retry_after_seconds == 43
    assert refused.policies == ("megapixels",)
    async with world.limits.admit(CALLER, with_images=False) as admission:
        assert admission.standing[Policy.MEGAPIXELS].available == 0
    world.now += 43 * SECOND
    await world.send()


async def test_requests_at_a_time():
    world = World(RateLimits(concurrent=2))
    async with world.limits.admit(CALLER) as first, world.limits.admit(CALLER) as second:
        assert rate_limit_fields(first.standing) == {
            "RateLimit-Policy": '"concurrent";q=2;qu="concurrent-requests"',
            "RateLimit": '"concurrent";r=1',
        }
        assert second.standing[Policy.CONCURRENT].available == 0
        refused = await world.refuse()
        assert refused.retry_after_seconds == 1
        assert refused.policies == ("concurrent",)
        assert set(world.limits.held.values()) == {"key:a"}
    assert not world.limits.held
    await world.send()


async def test_a_caller_that_hangs_up_keeps_nothing():
    world = World(RateLimits(concurrent=1))
    inside = asyncio.Event()

    async def hold():
        async with world.limits.admit(CALLER):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await inside.wait()
    await world.refuse()
    task.cancel()
    await asyncio.wait({task})
    await world.send()


async def test_a_place_is_free_before_its_request_is_answered(monkeypatch):
    world = World(RateLimits(concurrent=1))
    release = world.store.release

    async def take_a_moment(account, lease):
        await asyncio.sleep(0.01)
        await release(account, lease)

    monkeypatch.setattr(world.store, "release", take_a_moment)
    for _ in range(3):
        await world.send()


async def test_limits_of_one_key():
    world = World(RateLimits(requests_per_minute=1))
    busy = Caller("acme", "key:b", account="key:b", limits=RateLimits(requests_per_minute=3))
    await world.send()
    await world.refuse()
    for _ in range(3):
        await world.send(busy)
    await world.refuse(busy)


async def test_nobody_is_limited_without_an_account_or_without_limits():
    open_to_all = Caller("default", "anonymous")
    world = World(RateLimits(requests_per_minute=1))
    for _ in range(3):
        assert await world.send(open_to_all) == {}
    world = World(NO_RATE_LIMITS)
    for _ in range(3):
        assert await world.send(pixels=10**9) == {}
    assert len(world.store) == 0


def test_a_burst_belongs_to_its_rate():
    defaults = RateLimits(requests_per_minute=600, burst=50, megapixels_per_minute=7, concurrent=4)
    own = limit_set(defaults, RateLimits(requests_per_minute=10, concurrent=9))
    assert own.requests == Bucket(10, 10)
    assert own.pixels == Bucket(7000, 7000)
    assert own.concurrent == 9
    assert limit_set(defaults, NO_RATE_LIMITS).requests == Bucket(600, 50)
    assert not limit_set(NO_RATE_LIMITS, NO_RATE_LIMITS)


async def test_accounts_that_owe_nothing_are_forgotten():
    world = World(RateLimits(requests_per_minute=60, concurrent=1))
    await world.send()
    await world.store.renew({})
    assert len(world.store) == 1
    world.now += SECOND
    await world.store.renew({})
    assert len(world.store) == 0


async def test_a_stream_holds_a_place_and_its_messages_are_counted():
    world = World(RateLimits(requests_per_minute=60, burst=2, concurrent=1))
    async with world.limits.admit(CALLER, counted="place"):
        assert len(world.limits.held) == 1
        assert list((await world.refuse()).policies) == ["concurrent"]
        for _ in range(2):
            async with world.limits.admit(CALLER, counted="work"):
                assert len(world.limits.held) == 1
        with pytest.raises(OverLimitError) as caught:
            async with world.limits.admit(CALLER, counted="work"):
                raise AssertionError
        assert list(caught.value.policies) == ["requests"]
    # the end of a stream is not the end of what its messages owe
    async with world.limits.admit(CALLER, counted="place"):
        pass
    await world.store.renew({})
    assert list((await world.refuse()).policies) == ["requests"]

"""Opening the limits as the settings say."""

import asyncio
from functools import partial

import pytest

from gateway.concurrency import BackgroundTasks
from gateway.errors import ConfigurationError
from gateway.security.limits import factory
from gateway.security.limits.base import OverLimitError
from gateway.security.limits.factory import open_limits
from gateway.security.limits.memory import MemoryLimits
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.types import Caller

CALLER = Caller("acme", "key:a", account="key:a")


async def test_the_leases_of_long_requests_are_renewed(monkeypatch):
    monkeypatch.setattr(factory, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(factory, "MemoryLimits", partial(MemoryLimits, lease_seconds=0.5))
    settings = Settings(authentication="on", key_concurrent=1)
    async with (
        BackgroundTasks() as background,
        open_limits(settings, Metrics(), background) as limits,
        limits.admit(CALLER),
    ):
        await asyncio.sleep(0.8)
        with pytest.raises(OverLimitError):
            async with limits.admit(CALLER):
                pass


async def test_a_wrong_url_of_redis_stops_the_start():
    settings = Settings(authentication="on", redis_url="http://a")
    with pytest.raises(ConfigurationError, match="AURUM_REDIS_URL"):
        async with open_limits(settings, Metrics(), BackgroundTasks()):
            pass

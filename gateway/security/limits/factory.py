"""Opens the limits of callers as the settings say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.circuit_breaker import CircuitBreaker
from gateway.concurrency import BackgroundTasks
from gateway.errors import ConfigurationError
from gateway.security.limits.base import LimitStore
from gateway.security.limits.failover import RETRY_SECONDS, FailoverLimits
from gateway.security.limits.memory import LEASE_SECONDS, MemoryLimits
from gateway.security.limits.redis import RedisLimits
from gateway.security.limits.service import Limits
from gateway.settings import PREFIX, Settings
from gateway.telemetry.metrics import Metrics
from gateway.tls_files import files_for_redis
from gateway.types import NO_RATE_LIMITS, RateLimits

_RENEW_SECONDS: Final = LEASE_SECONDS / 3


def default_limits(settings: Settings) -> RateLimits:
    """Read the limits of callers that have none of their own.

    Raises ConfigurationError for limits that would never apply.
    """
    limits = RateLimits(
        settings.key_requests_per_minute,
        settings.key_burst,
        settings.key_megapixels_per_minute,
        settings.key_concurrent,
    )
    if limits.burst is not None and limits.requests_per_minute is None:
        message = f"{PREFIX}KEY_BURST needs {PREFIX}KEY_REQUESTS_PER_MINUTE"
        raise ConfigurationError(message)
    if limits != NO_RATE_LIMITS and settings.authentication != "on":
        message = (
            f"{PREFIX}KEY_…: nobody is asked for a key, so no limit of keys applies; "
            f"set {PREFIX}AUTHENTICATION=on"
        )
        raise ConfigurationError(message)
    return limits


@asynccontextmanager
async def open_limits(
    settings: Settings, metrics: Metrics, background: BackgroundTasks
) -> AsyncIterator[Limits]:
    """Open the limits; Redis need not be there.

    Raises ConfigurationError for settings that do not fit together, or a URL that names no Redis.
    """
    defaults = default_limits(settings)
    async with AsyncExitStack() as closing:
        own = MemoryLimits()
        store: LimitStore = own
        if settings.redis_url is not None and settings.authentication == "on":
            shared = RedisLimits(
                settings.redis_url.get_secret_value(),
                timeout_seconds=settings.limits_timeout_seconds,
                files=files_for_redis(settings),
            )
            closing.push_async_callback(shared.close)
            store = FailoverLimits(
                shared,
                own,
                metrics.limits,
                timeout_seconds=settings.limits_timeout_seconds,
                breaker=CircuitBreaker(
                    retry_seconds=RETRY_SECONDS,
                    observer=metrics.parts.circuit("redis_limits"),
                ),
            )
        limits = Limits(defaults, store, background, metrics.limits)

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                await store.renew(dict(limits.held))

        async with background.running("limits-leases", renew):
            yield limits

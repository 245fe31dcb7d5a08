"""Counts in Redis, and in this process while Redis does not answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from gateway.circuit_breaker import CircuitBreaker
from gateway.redis import UNREACHABLE, ResponseError
from gateway.security.limits.base import Counts, LimitSet, LimitStore
from gateway.security.limits.memory import MemoryLimits
from gateway.telemetry.limit_metrics import LimitMetrics

log = logging.getLogger(__name__)
T = TypeVar("T")

_AT_ONCE: Final = 16
"""Calls to Redis at a time; the others wait for their turn, which comes after microseconds."""
RETRY_SECONDS: Final = 1.0
"""While Redis is away, one call in this time finds out whether it is back."""


class FailoverLimits:
    """`LimitStore` that never fails: each gateway counts for itself while Redis is away.

    It goes on from what it last knew of each account.
    """

    def __init__(
        self,
        shared: LimitStore,
        own: MemoryLimits,
        metrics: LimitMetrics,
        *,
        timeout_seconds: float,
        breaker: CircuitBreaker,
    ) -> None:
        """timeout_seconds: for each call to `shared`, connecting included."""
        self._shared = shared
        self._own = own
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self._breaker = breaker
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def admit(
        self, account: str, limits: LimitSet, *, lease: str, with_images: bool
    ) -> Counts:
        """See `LimitStore.admit`."""
        found = await self._ask(
            lambda: self._shared.admit(account, limits, lease=lease, with_images=with_images)
        )
        self._metrics.checks.labels("memory" if found is None else "redis").inc()
        if found is not None:
            held = None if found.refused else lease
            self._own.note(account, limits, found, lease=held)
            return found
        return await self._own.admit(account, limits, lease=lease, with_images=with_images)

    async def charge(self, account: str, limits: LimitSet, kilopixels: int) -> Counts:
        """See `LimitStore.charge`."""
        found = await self._ask(lambda: self._shared.charge(account, limits, kilopixels))
        if found is not None:
            self._own.note(account, limits, found)
            return found
        return await self._own.charge(account, limits, kilopixels)

    async def release(self, account: str, lease: str) -> None:
        """See `LimitStore.release`. One that Redis cannot be told of ends by itself."""
        await self._own.release(account, lease)
        await self._ask(lambda: self._shared.release(account, lease))

    async def renew(self, leases: Mapping[str, str]) -> None:
        """See `LimitStore.renew`."""
        await self._own.renew(leases)
        if leases:
            await self._ask(lambda: self._shared.renew(leases))

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Ask Redis; None if it does not answer in time."""
        # many requests at once must not look like a Redis that is slow
        async with self._turns:
            return await self._ask_now(call)

    async def _ask_now(self, call: Callable[[], Awaitable[T]]) -> T | None:
        if not self._breaker.allows_call():
            return None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                found = await call()
        except ResponseError as error:
            # it answers, but not to this: memory is full, or something else lies under the key
            log.warning("Redis refuses to count", extra={"reason": str(error)[:200]})
            return None
        except (TimeoutError, *UNREACHABLE):
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return found

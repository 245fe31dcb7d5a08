"""Admits the requests of callers within their limits."""

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from gateway.concurrency import BackgroundTasks
from gateway.security.limits.base import (
    KILOPIXELS,
    Counts,
    Left,
    LimitSet,
    LimitStore,
    OverLimitError,
    Policy,
    Standing,
    limit_set,
)
from gateway.security.limits.meter import Bucket
from gateway.telemetry.limit_metrics import LimitMetrics
from gateway.types import Caller, Counted, RateLimits

_CONCURRENT_RETRY_SECONDS: Final = 1
"""Nobody knows when another request of a caller ends."""
_RELEASE_SECONDS: Final = 1.0
"""Longest time for which an answer waits until its lease is given back."""
_MICROSECONDS: Final = 1_000_000


class Admission:
    """A request that was admitted; it holds one of the requests at a time of its caller."""

    def __init__(
        self, store: LimitStore, account: str, limits: LimitSet, standing: Standing
    ) -> None:
        self._store = store
        self._account = account
        self._limits = limits
        self.standing = standing
        """How the caller stands; empty if it has no limits."""

    @property
    def counts_pixels(self) -> bool:
        """Whether the megapixels of the caller are limited."""
        return self._limits.pixels is not None

    async def charge_pixels(self, pixels: int) -> None:
        """Count the pixels of images whose headers are known; never refuses.

        More than the caller has left makes its next requests with images wait.
        """
        if self._limits.pixels is None or pixels <= 0:
            return
        kilopixels = -(-pixels // KILOPIXELS)
        counts = await self._store.charge(self._account, self._limits, kilopixels)
        self.standing = standing_of(self._limits, counts)


class Limits:
    """Counts what callers ask for, and refuses what exceeds their limits."""

    def __init__(
        self,
        defaults: RateLimits,
        store: LimitStore,
        background: BackgroundTasks,
        metrics: LimitMetrics,
    ) -> None:
        """defaults: of callers without limits of their own."""
        self._defaults = defaults
        self._store = store
        self._background = background
        self._metrics = metrics
        self._held: dict[str, str] = {}

    @property
    def held(self) -> Mapping[str, str]:
        """The accounts of requests that have not ended, by their leases."""
        return self._held

    @asynccontextmanager
    async def admit(
        self, caller: Caller, *, with_images: bool = False, counted: Counted = "all"
    ) -> AsyncIterator[Admission]:
        """Count a request before its body is read, and hold it until the end of the block.

        with_images: whether the request may carry images, which a caller without megapixels must
        not send. counted: what of it counts.

        Raises OverLimitError, before the block, if a limit of the caller is exceeded.
        """
        limits = limit_set(self._defaults, caller.limits) if caller.account else LimitSet()
        if counted == "place":
            limits = LimitSet(concurrent=limits.concurrent)
        elif counted == "work":
            limits = replace(limits, concurrent=None)
        if not limits:
            yield Admission(self._store, "", limits, {})
            return
        lease = uuid.uuid4().hex
        counts = await self._store.admit(
            caller.account, limits, lease=lease, with_images=with_images
        )
        standing = standing_of(limits, counts)
        if counts.refused:
            raise self._refuse(limits, counts, standing)
        if limits.concurrent is None:
            yield Admission(self._store, caller.account, limits, standing)
            return
        self._held[lease] = caller.account
        try:
            yield Admission(self._store, caller.account, limits, standing)
        finally:
            del self._held[lease]
            # before the answer is sent, as the next request may follow it at once; a task of its
            # own, as the caller may have hung up
            release = self._background.detach(
                "limits-release", self._store.release(caller.account, lease)
            )
            await asyncio.wait({release}, timeout=_RELEASE_SECONDS)

    def _refuse(self, limits: LimitSet, counts: Counts, standing: Standing) -> OverLimitError:
        names = [policy for policy in Policy if policy in counts.refused]
        for name in names:
            self._metrics.refused.labels(name).inc()
        waits = [standing[name].seconds or _CONCURRENT_RETRY_SECONDS for name in names]
        told = ", ".join(_describe(name, standing[name]) for name in names)
        return OverLimitError(
            f"this key or token may have {told}",
            retry_after_seconds=max(waits),
            policies=names,
            standing=standing,
        )


def standing_of(limits: LimitSet, counts: Counts) -> Standing:
    """Say what is left of each limit."""
    standing: dict[Policy, Left] = {}
    if limits.requests is not None:
        bucket = limits.requests
        burst = None if bucket.capacity == bucket.rate else bucket.capacity
        available = bucket.available(counts.requests)
        wait = bucket.wait_microseconds(counts.requests, 1)
        seconds = _seconds(bucket, counts.requests, available=available, wait=wait)
        standing[Policy.REQUESTS] = Left(bucket.rate, burst, available, seconds)
    if limits.pixels is not None:
        bucket = limits.pixels
        available = bucket.available(counts.pixels) // KILOPIXELS
        wait = bucket.wait_microseconds(counts.pixels, KILOPIXELS)
        seconds = _seconds(bucket, counts.pixels, available=available, wait=wait)
        quota = bucket.rate // KILOPIXELS
        standing[Policy.MEGAPIXELS] = Left(quota, None, available, seconds)
    if limits.concurrent is not None:
        available = max(0, limits.concurrent - counts.taken)
        standing[Policy.CONCURRENT] = Left(limits.concurrent, None, available, None)
    return standing


def _seconds(bucket: Bucket, debt: int, *, available: int, wait: int) -> int:
    """Until all is available again, or, while nothing is, until something is; 1 or more."""
    microseconds = bucket.microseconds_to(debt, 0) if available else wait
    return max(1, math.ceil(microseconds / _MICROSECONDS))


def _describe(name: Policy, left: Left) -> str:
    match name:
        case Policy.REQUESTS:
            burst = "" if left.burst is None else f" and {left.burst:,} at once"
            return f"{left.quota:,} requests a minute{burst}"
        case Policy.MEGAPIXELS:
            return f"{left.quota:,} megapixels a minute"
        case Policy.CONCURRENT:
            return f"{left.quota:,} requests at a time"

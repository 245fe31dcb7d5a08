"""What limits consist of: their names, how a caller stands, and where it is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from gateway.errors import RateLimitedError
from gateway.security.limits.meter import Bucket
from gateway.types import RateLimits

KILOPIXELS: Final = 1000
"""Kilopixels in a megapixel; images are counted in kilopixels, rounded up."""


class Policy(StrEnum):
    """The names of the limits, as callers and metrics see them."""

    REQUESTS = "requests"
    MEGAPIXELS = "megapixels"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class LimitSet:
    """The limits of one caller as buckets; None: no limit.

    requests: units are requests. pixels: units are kilopixels. concurrent: requests at a time.
    """

    requests: Bucket | None = None
    pixels: Bucket | None = None
    concurrent: int | None = None

    def __bool__(self) -> bool:
        return any(each is not None for each in (self.requests, self.pixels, self.concurrent))


@dataclass(frozen=True, slots=True)
class Counts:
    """What a store has counted for a caller, at one moment.

    requests, pixels: debts as `meter.Bucket` has them, in ticks. taken: requests that have not
    ended. refused: the limits that do not admit the request; then nothing of it was counted.
    """

    requests: int = 0
    pixels: int = 0
    taken: int = 0
    refused: frozenset[Policy] = frozenset()


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one limit.

    quota: units a minute, or at a time. burst: units at once, None where it equals the quota.
    available: units that are left. seconds: until all of the quota is available again, or, if
    nothing is, until something is; None for requests at a time.
    """

    quota: int
    burst: int | None
    available: int
    seconds: int | None


Standing = Mapping[Policy, Left]
"""How a caller stands with each of its limits."""


class OverLimitError(RateLimitedError):
    """A caller asks for more than its limits allow; `standing`: what is left of them."""

    def __init__(
        self,
        detail: str,
        *,
        retry_after_seconds: int,
        policies: Sequence[str],
        standing: Standing,
    ) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds, policies=policies)
        self.standing = standing


class LimitStore(Protocol):
    """Where the use of callers is counted, each under its account. Each method is atomic."""

    async def admit(
        self, account: str, limits: LimitSet, *, lease: str, with_images: bool
    ) -> Counts:
        """Count a request if all limits admit it, and hold `lease` until it ends.

        with_images: refuse it if the account has used up its pixels; other requests may pass.
        """
        ...

    async def charge(self, account: str, limits: LimitSet, kilopixels: int) -> Counts:
        """Count pixels, whether they are left or not."""
        ...

    async def release(self, account: str, lease: str) -> None:
        """Give back a lease; one that is unknown or has ended is ignored."""
        ...

    async def renew(self, leases: Mapping[str, str]) -> None:
        """Prolong leases, by lease and account; those that have ended stay so."""
        ...


def limit_set(defaults: RateLimits, own: RateLimits) -> LimitSet:
    """Make the limits of a caller; its own ones go before the defaults.

    A burst belongs to its rate: a caller with a rate of its own does not get the default burst.
    """
    source = own if own.requests_per_minute is not None else defaults
    rate = source.requests_per_minute
    burst = own.burst or source.burst or rate
    pixels = own.megapixels_per_minute or defaults.megapixels_per_minute
    kilopixels = None if pixels is None else pixels * KILOPIXELS
    return LimitSet(
        requests=None if rate is None or burst is None else Bucket(rate, burst),
        pixels=None if kilopixels is None else Bucket(kilopixels, kilopixels),
        concurrent=own.concurrent or defaults.concurrent,
    )

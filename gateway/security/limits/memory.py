"""Counts the use of callers in this process."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.security.limits.base import Counts, LimitSet, Policy
from gateway.security.limits.meter import TICKS, Bucket

LEASE_SECONDS: Final = 30.0
"""A lease that nobody renews ends after this time."""


@dataclass(slots=True)
class _Meter:
    debt: int = 0
    at: int = 0

    def drain(self, bucket: Bucket, now: int) -> int:
        self.debt = bucket.drain(self.debt, now - self.at)
        self.at = max(self.at, now)
        return self.debt


@dataclass(slots=True)
class _Account:
    limits: LimitSet
    requests: _Meter = field(default_factory=_Meter)
    pixels: _Meter = field(default_factory=_Meter)
    leases: dict[str, int] = field(default_factory=dict)
    """When each ends."""

    def drain(self, now: int) -> Counts:
        """Bring everything up to date; times in microseconds."""
        limits = self.limits
        self.leases = {lease: ends for lease, ends in self.leases.items() if ends > now}
        return Counts(
            requests=0 if limits.requests is None else self.requests.drain(limits.requests, now),
            pixels=0 if limits.pixels is None else self.pixels.drain(limits.pixels, now),
            taken=len(self.leases),
        )


class MemoryLimits:
    """`LimitStore` in this process. `clock`: microseconds that never go back."""

    def __init__(
        self,
        *,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._lease_microseconds = int(lease_seconds * 1e6)
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    async def admit(
        self, account: str, limits: LimitSet, *, lease: str, with_images: bool
    ) -> Counts:
        """See `LimitStore.admit`."""
        known = self._account(account, limits)
        now = self._clock()
        counts = known.drain(now)
        refused = _refused(limits, counts, with_images=with_images)
        if refused:
            return Counts(counts.requests, counts.pixels, counts.taken, refused)
        if limits.requests is not None:
            known.requests.debt += TICKS
        if limits.concurrent is not None:
            known.leases[lease] = now + self._lease_microseconds
        return Counts(known.requests.debt, counts.pixels, len(known.leases))

    async def charge(self, account: str, limits: LimitSet, kilopixels: int) -> Counts:
        """See `LimitStore.charge`."""
        known = self._account(account, limits)
        counts = known.drain(self._clock())
        if limits.pixels is not None:
            known.pixels.debt += kilopixels * TICKS
        return Counts(counts.requests, known.pixels.debt, counts.taken)

    def note(
        self, account: str, limits: LimitSet, counts: Counts, *, lease: str | None = None
    ) -> None:
        """Take over what another store has counted by now, and hold a lease that it gave."""
        known = self._account(account, limits)
        now = self._clock()
        known.drain(now)
        if limits.requests is not None:
            known.requests.debt = counts.requests
        if limits.pixels is not None:
            known.pixels.debt = counts.pixels
        if lease is not None and limits.concurrent is not None:
            known.leases[lease] = now + self._lease_microseconds

    async def release(self, account: str, lease: str) -> None:
        """See `LimitStore.release`."""
        known = self._accounts.get(account)
        if known is not None:
            known.leases.pop(lease, None)

    async def renew(self, leases: Mapping[str, str]) -> None:
        """See `LimitStore.renew`. Also forgets accounts that have nothing to remember."""
        now = self._clock()
        for account, known in tuple(self._accounts.items()):
            if known.drain(now) == Counts():
                del self._accounts[account]
        for lease, account in leases.items():
            held = self._accounts[account].leases if account in self._accounts else {}
            if lease in held:
                held[lease] = now + self._lease_microseconds

    def _account(self, account: str, limits: LimitSet) -> _Account:
        known = self._accounts.setdefault(account, _Account(limits))
        # a call to which one of them does not apply pays back the debts of the others, too
        known.limits = LimitSet(
            requests=limits.requests or known.limits.requests,
            pixels=limits.pixels or known.limits.pixels,
            concurrent=limits.concurrent,
        )
        return known


def _refused(limits: LimitSet, counts: Counts, *, with_images: bool) -> frozenset[Policy]:
    refused = set()
    if limits.requests is not None and not limits.requests.admits(counts.requests, 1):
        refused.add(Policy.REQUESTS)
    # how many pixels the request has is not known yet: any that are left admit it
    if with_images and limits.pixels is not None and counts.pixels >= limits.pixels.most:
        refused.add(Policy.MEGAPIXELS)
    if limits.concurrent is not None and counts.taken >= limits.concurrent:
        refused.add(Policy.CONCURRENT)
    return frozenset(refused)

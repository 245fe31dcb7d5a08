"""Quotas of tenants: collections, faces, images per day.

Images are counted in the process and added to the records every few seconds, so that no request
waits for a write: gateways that share a database may let through what they receive within that
time. The counts of collections and faces come from the records; simultaneous requests may exceed
them by what they add together.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError, ForbiddenError, RateLimitedError
from gateway.records import clock
from gateway.records.usage import KEPT_DAYS, UsageRecords

log = logging.getLogger(__name__)
_WRITE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """What each tenant may have; None: no limit."""

    collections: int | None = None
    faces: int | None = None
    images_per_day: int | None = None


NO_QUOTAS: Final = QuotaLimits()


class Quotas:
    """Counts what tenants use, and refuses what exceeds their limits."""

    def __init__(self, usage: UsageRecords, limits: QuotaLimits) -> None:
        self._usage = usage
        self._collections = limits.collections
        self._faces = limits.faces
        self._images = limits.images_per_day
        self._day = _day(clock.now())
        self._written: dict[str, int] = {}
        self._pending: Counter[str] = Counter()

    @asynccontextmanager
    async def counting(self, background: BackgroundTasks) -> AsyncIterator[None]:
        """Write what is counted now and then, and at the end of the block."""

        async def write() -> None:
            while True:
                await asyncio.sleep(_WRITE_SECONDS)
                await self.write()

        try:
            async with background.running("tenant-usage", write):
                yield
        finally:
            await self.write()

    async def check_images(self, tenant: str) -> None:
        """Raise RateLimitedError if the tenant may send no further image today."""
        await self._room_for(tenant, 1)

    async def charge_images(self, tenant: str, number: int) -> None:
        """Count images before they are worked on; raises RateLimitedError when it is too many."""
        if self._images is not None and number:
            await self._room_for(tenant, number)
            self._pending[tenant] += number

    async def _room_for(self, tenant: str, number: int) -> None:
        if self._images is None:
            return
        now = clock.now()
        self._turn_day(now)
        if tenant not in self._written:
            self._written[tenant] = await self._images_so_far(tenant)
        used = self._written[tenant] + self._pending[tenant]
        if used + number > self._images:
            message = f"the quota of {self._images:,} images a day is used up"
            raise RateLimitedError(message, retry_after_seconds=_seconds_left(now))

    async def check_collections(self, tenant: str) -> None:
        """Raise ForbiddenError if the tenant may make no further collection."""
        most = self._collections
        if most is not None and await self._usage.collections(tenant) >= most:
            raise ForbiddenError(f"the quota of {most:,} collections is used up")

    async def check_faces(self, tenant: str, number: int) -> None:
        """Raise ForbiddenError if so many more faces exceed the quota of the tenant."""
        most = self._faces
        if most is not None and await self._usage.faces(tenant) + number > most:
            raise ForbiddenError(f"the quota of {most:,} faces is used up")

    async def write(self) -> None:
        """Add what was counted to the records; keeps it if they do not answer."""
        if not self._pending:
            return
        pending, self._pending = self._pending, Counter()
        day = self._day
        try:
            self._written |= await self._usage.add_images(pending, day=day)
        except AurumError as error:
            if day == self._day:
                self._pending.update(pending)
            log.warning("used images are counted later", extra={"reason": error.detail})

    async def _images_so_far(self, tenant: str) -> int:
        try:
            return await self._usage.images(tenant, day=self._day)
        except AurumError as error:
            # images need no records: a quota that is not known refuses nobody
            log.warning("a quota is not known", extra={"reason": error.detail})
            return 0

    def _turn_day(self, now: float) -> None:
        if _day(now) != self._day:
            # the last seconds of a day are not written any more
            self._day = _day(now)
            self._written.clear()
            self._pending.clear()

    async def forget_old(self) -> None:
        """Delete the counts of days long ago."""
        await self._usage.forget_before(_day(clock.now() - KEPT_DAYS * 86_400))


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _seconds_left(at: float) -> int:
    now = datetime.fromtimestamp(at, UTC)
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((tomorrow - now).total_seconds()) + 1

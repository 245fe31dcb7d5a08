from collections import Counter
from datetime import UTC, datetime

import pytest

from gateway.errors import ForbiddenError, RateLimitedError, StorageUnavailableError
from gateway.records import clock
from gateway.security.quotas import QuotaLimits, Quotas

EVENING = datetime(2026, 11, 29, 23, 59, 30, tzinfo=UTC).timestamp()


class Usage:
    """Counts in memory that may be away."""

    def __init__(self) -> None:
        self.totals: Counter[tuple[str, str]] = Counter()
        self.away = False
        self.number = 0

    async def images(self, tenant, *, day):
        self._check()
        return self.totals[tenant, day]

    async def add_images(self, images, *, day):
        self._check()
        for tenant, number in images.items():
            self.totals[tenant, day] += number
        return {tenant: self.totals[tenant, day] for tenant in images}

    async def collections(self, tenant):
        return self.number

    async def faces(self, tenant):
        return self.number

    def _check(self):
        if self.away:
            raise StorageUnavailableError("away")


@pytest.fixture
def at(monkeypatch):
    times = [EVENING]
    monkeypatch.setattr(clock, "now", lambda: times[-1])
    return times


async def test_images_of_a_day(at):
    usage = Usage()
    usage.totals["acme", "2026-11-29"] = 7
    quotas = Quotas(usage, QuotaLimits(images_per_day=10))
    await quotas.charge_images("acme", 2)
    with pytest.raises(RateLimitedError, match="10 images a day") as caught:
        await quotas.charge_images("acme", 2)
    assert caught.value.retry_after_seconds == 31
    # what was refused does not count
    await quotas.charge_images("acme", 1)
    await quotas.charge_images("initech", 10)
    await quotas.write()
    await quotas.write()
    assert usage.totals == {("acme", "2026-11-29"): 10, ("initech", "2026-11-29"): 10}
    at.append(EVENING + 60)
    await quotas.charge_images("acme", 10)
    await quotas.write()
    assert usage.totals["acme", "2026-11-30"] == 10


async def test_two_gateways_count_together(at):
    usage = Usage()
    one, two = (Quotas(usage, QuotaLimits(images_per_day=10)) for _ in range(2))
    for quotas in (one, two):
        await quotas.charge_images("acme", 4)
        await quotas.write()
    await one.charge_images("acme", 1)
    await one.write()
    with pytest.raises(RateLimitedError):
        await one.charge_images("acme", 2)


async def test_without_records_images_are_answered_and_counted_later(at):
    usage = Usage()
    usage.away = True
    quotas = Quotas(usage, QuotaLimits(images_per_day=3))
    await quotas.charge_images("acme", 3)
    await quotas.write()
    with pytest.raises(RateLimitedError):
        await quotas.charge_images("acme", 1)
    usage.away = False
    await quotas.write()
    assert usage.totals["acme", "2026-11-29"] == 3


async def test_without_limits_nothing_is_counted(at):
    usage = Usage()
    usage.away = True
    quotas = Quotas(usage, QuotaLimits())
    await quotas.charge_images("acme", 1000)
    await quotas.check_collections("acme")
    await quotas.check_faces("acme", 1000)
    await quotas.write()


async def test_collections_and_faces(at):
    usage = Usage()
    quotas = Quotas(usage, QuotaLimits(collections=3, faces=3))
    usage.number = 2
    await quotas.check_collections("acme")
    await quotas.check_faces("acme", 1)
    with pytest.raises(ForbiddenError, match="3 faces"):
        await quotas.check_faces("acme", 2)
    usage.number = 3
    with pytest.raises(ForbiddenError, match="3 collections"):
        await quotas.check_collections("acme")

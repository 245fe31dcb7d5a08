"""Contract of the records of keys and usage, on both databases."""

import asyncio
from dataclasses import replace

import pytest

from gateway.errors import ConflictError, InvalidRequestError, NotFoundError
from gateway.records import clock
from gateway.records.store import RecordStore
from gateway.records.types import AuditLine
from gateway.security.key_service import DAY_SECONDS, KeyRequest, KeyService
from gateway.security.peppers import Peppers
from gateway.types import NO_RATE_LIMITS, RateLimits
from tests.support.face_records import a_collection, enrolled

INFER = KeyRequest("acme", "shop", ["infer"])


@pytest.fixture
def service(records: RecordStore, tmp_path) -> KeyService:
    return KeyService(records.keys, records.audit, Peppers.load(tmp_path / "pepper"))


async def test_a_key_is_stored_without_its_secret(records, service) -> None:
    wanted = replace(INFER, roles=["search", "infer", "infer"], collections=["b", "a"])
    made = await service.create(replace(wanted, expires_in_seconds=60), by="test")
    found = await records.keys.get(made.key.id)
    assert found == made.record
    assert (found.roles, found.collections) == (("infer", "search"), ("a", "b"))
    assert found.expires_at == found.created_at + 60
    secret = made.key.text.split("_")[2]
    assert secret not in str([getattr(found, name) for name in found.__slots__])
    assert found.digest not in repr(found)
    assert await records.keys.get("none") is None


async def test_limits_of_a_key_are_kept_when_it_is_rotated(records, service) -> None:
    limits = RateLimits(600, 60, 300, 8)
    made = await service.create(replace(INFER, limits=limits), by="test")
    other = await service.create(INFER, by="test")
    rotated = await service.rotate(made.key.id, overlap_seconds=0, tenant="acme", by="test")
    for key in (made.key, rotated.new.key):
        assert (await records.keys.get(key.id)).limits == limits
    assert (await records.keys.get(other.key.id)).limits == NO_RATE_LIMITS


async def test_limits_of_a_key_change_one_by_one(records, service) -> None:
    made = await service.create(replace(INFER, limits=RateLimits(600, 60, 300)), by="test")
    key_id = made.key.id
    given = {"requests_per_minute": 1200, "megapixels_per_minute": None, "concurrent": 8}
    changed = await service.change_limits(key_id, given, tenant="acme", by="test")
    assert changed.limits == RateLimits(1200, 60, None, 8)
    assert await records.keys.get(key_id) == changed
    (line,) = await records.audit.latest(tenant="acme", limit=1)
    assert (line.action, line.receipt, line.actor) == ("change_key", key_id, "test")
    assert line.counts == {"requests_per_minute": 1200, "burst": 60, "concurrent": 8}
    # a burst without its rate, checked as a whole
    for wrong in ({"requests_per_minute": None}, {"concurrent": 0}):
        with pytest.raises(InvalidRequestError):
            await service.change_limits(key_id, wrong, tenant="acme", by="test")
    with pytest.raises(NotFoundError):
        await service.change_limits(key_id, given, tenant="initech", by="test")
    gone = dict.fromkeys(("requests_per_minute", "burst", "concurrent"))
    assert (
        await service.change_limits(key_id, gone, tenant=None, by="test")
    ).limits == NO_RATE_LIMITS
    await service.revoke(key_id, tenant=None, by="test")
    with pytest.raises(ConflictError):
        await service.change_limits(key_id, given, tenant=None, by="test")


async def test_a_key_whose_expiry_is_no_time_is_listed_as_expired(records, service) -> None:
    made = await service.create(INFER, by="test")
    # as an older release took it; SQLite has no NaN
    for number, broken in enumerate((float("nan"), float("inf"), -1e300)):
        await records.keys.add(replace(made.record, id=f"broken{number}", expires_at=broken))
    listed = {each.id: each for each in await service.page(tenant=None, limit=9)}
    never, endless, past = (listed[f"broken{number}"] for number in range(3))
    if never.expires_at is not None:
        assert never.has_broken_expiry
        assert not never.is_valid(at=clock.now())
        assert never.shown_expiry == never.created_at
    assert endless.is_valid(at=clock.now())
    assert endless.shown_expiry == 253_402_300_799.0
    assert past.shown_expiry == past.created_at


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": ""},
        {"tenant": "../x"},
        {"tenant": "x" * 65},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 101},
        {"roles": []},
        {"roles": ["root"]},
        {"collections": []},
        {"collections": ["/"]},
        {"roles": ["admin"], "collections": ["a"]},
        {"expires_in_seconds": 0.0},
        {"expires_in_seconds": float("nan")},
        {"expires_in_seconds": float("inf")},
        {"expires_in_seconds": 1e300},
        {"limits": RateLimits(requests_per_minute=0)},
        {"limits": RateLimits(megapixels_per_minute=1_000_001)},
        {"limits": RateLimits(burst=1)},
    ],
)
async def test_a_wrong_key_is_not_made(records, service, wrong) -> None:
    with pytest.raises(InvalidRequestError):
        await service.create(replace(INFER, **wrong), by="test")
    assert await records.keys.page(tenant=None, limit=10) == ()


async def test_pages_of_a_tenant(service) -> None:
    made = [await service.create(INFER, by="test") for _ in range(5)]
    await service.create(replace(INFER, tenant="initech"), by="test")
    ids, after = [], None
    while page := await service.page(tenant="acme", limit=2, after=after):
        ids += [record.id for record in page]
        after = (page[-1].created_at, page[-1].id)
    ordered = sorted(made, key=lambda each: (each.record.created_at, each.record.id))
    assert ids == [each.record.id for each in ordered]
    assert len(await service.page(tenant=None, limit=10)) == 6


async def test_rotation_keeps_both_for_a_while(records, service, set_clock) -> None:
    wanted = replace(INFER, expires_in_seconds=30 * DAY_SECONDS, collections=["a"])
    old = (await service.create(wanted, by="test")).record
    set_clock.move(10 * DAY_SECONDS)
    rotated = await service.rotate(old.id, overlap_seconds=60, tenant="acme", by="test")
    new = rotated.new.record
    assert (new.tenant, new.roles, new.collections) == (old.tenant, old.roles, old.collections)
    assert new.replaces == old.id
    # as long as the first one was
    assert new.expires_at == clock.now() + 30 * DAY_SECONDS
    found = await records.keys.get(old.id)
    assert found == rotated.old
    assert found.is_valid(at=clock.now())
    set_clock.move(60)
    assert not found.is_valid(at=clock.now())
    assert new.is_valid(at=clock.now())


async def test_rotation_does_not_prolong_a_key(records, service) -> None:
    old = (await service.create(replace(INFER, expires_in_seconds=10), by="test")).record
    rotated = await service.rotate(old.id, overlap_seconds=60, tenant=None, by="test")
    assert rotated.old.expires_at == old.expires_at


async def test_what_cannot_be_rotated(service, set_clock) -> None:
    old = (await service.create(INFER, by="test")).record
    for key_id, tenant in (("none", None), (old.id, "initech")):
        with pytest.raises(NotFoundError):
            await service.rotate(key_id, overlap_seconds=60, tenant=tenant, by="test")
    for seconds in (-1, 91 * DAY_SECONDS, float("nan")):
        with pytest.raises(InvalidRequestError):
            await service.rotate(old.id, overlap_seconds=seconds, tenant=None, by="test")
    outcomes = await asyncio.gather(
        *(service.rotate(old.id, overlap_seconds=60, tenant=None, by="test") for _ in range(3)),
        return_exceptions=True,
    )
    # of several at once, one
    assert sum(isinstance(each, ConflictError) for each in outcomes) == 2
    revoked = (await service.create(INFER, by="test")).record
    await service.revoke(revoked.id, tenant=None, by="test")
    expired = (await service.create(replace(INFER, expires_in_seconds=5), by="test")).record
    set_clock.move(5)
    for record in (revoked, expired):
        with pytest.raises(ConflictError, match="revoked or expired"):
            await service.rotate(record.id, overlap_seconds=60, tenant=None, by="test")


async def test_revocation_is_final_and_of_the_own_tenant(service, set_clock) -> None:
    made = (await service.create(INFER, by="test")).record
    with pytest.raises(NotFoundError):
        await service.revoke(made.id, tenant="initech", by="test")
    first = await service.revoke(made.id, tenant="acme", by="test")
    assert not first.is_valid(at=clock.now())
    set_clock.move(60)
    assert (await service.revoke(made.id, tenant=None, by="test")).revoked_at == first.revoked_at


async def test_last_use_only_grows(records, service) -> None:
    one, two = [(await service.create(INFER, by="test")).record.id for _ in range(2)]
    await records.keys.note_used({one: 5.0, two: 7.0})
    await records.keys.note_used({one: 9.0, two: 6.0, "none": 1.0})
    found = [await records.keys.get(each) for each in (one, two)]
    assert [each.last_used_at for each in found] == [9.0, 7.0]


async def test_the_audit_says_who_changed_keys(records, service) -> None:
    made = (await service.create(INFER, by="x" * 100, request_id="r" * 128)).record
    await service.revoke(made.id, tenant=None, by="test")
    lines = await records.audit.latest(tenant="acme", limit=10)
    assert [(line.action, line.receipt) for line in lines] == [
        ("revoke_key", made.id),
        ("create_key", made.id),
    ]
    # callers choose the ids of their requests, a column has 64 characters
    assert (len(lines[1].actor), len(lines[1].request_id or "")) == (64, 64)
    assert await records.audit.latest(tenant="initech", limit=10) == []


async def test_pages_of_the_audit(records) -> None:
    for number in range(5):
        line = AuditLine(float(number), "acme", "a", "x", None, str(number), {}, None)
        await records.audit.add(line)
    first = await records.audit.page(tenant="acme", limit=3, before=None)
    rest = await records.audit.page(tenant="acme", limit=3, before=first[-1][0])
    assert [line.receipt for _, line in (*first, *rest)] == ["4", "3", "2", "1", "0"]
    # a cursor may claim any number
    for before in (-1, 1 << 62):
        await records.audit.page(tenant="acme", limit=3, before=before)


async def test_images_per_day_add_up(records) -> None:
    usage = records.usage
    await asyncio.gather(*(usage.add_images({"acme": 2}, day="2026-11-29") for _ in range(5)))
    totals = await usage.add_images({"acme": 1, "initech": 3}, day="2026-11-29")
    assert totals == {"acme": 11, "initech": 3}
    await usage.add_images({"acme": 1}, day="2026-11-30")
    assert await usage.images("acme", day="2026-11-29") == 11
    await usage.forget_before("2026-11-30")
    assert await usage.images("acme", day="2026-11-29") == 0
    assert await usage.images("acme", day="2026-11-30") == 1


async def test_collections_and_faces_of_a_tenant(records) -> None:
    collection, _ = await enrolled(records, 3)
    usage = records.usage
    assert await usage.collections(collection.tenant) == 1
    assert await usage.faces(collection.tenant) == 3
    assert (await usage.collections("other"), await usage.faces("other")) == (0, 0)


async def test_a_list_of_some_collections(records) -> None:
    collection = a_collection()
    for name in ("a", "b", "c"):
        await records.collections.add(replace(collection, id=name, name=name))
    page = records.collections.page
    tenant = collection.tenant
    found = await page(tenant=tenant, limit=10, after=None, names={"a", "c", "x"})
    assert [each.name for each in found] == ["a", "c"]
    assert await page(tenant=tenant, limit=10, after=None, names=frozenset()) == ()

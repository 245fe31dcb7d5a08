from dataclasses import replace

import pytest

from gateway.errors import ConfigurationError, StorageUnavailableError, UnauthorizedError
from gateway.records import clock
from gateway.records.keys import ApiKeyRecord
from gateway.security import key_authenticator
from gateway.security.api_keys import ApiKey, _checksum
from gateway.security.key_authenticator import (
    FRESH_SECONDS,
    GRACE_SECONDS,
    KeyAuthenticator,
    load_local_key,
)
from gateway.security.peppers import Peppers


class Records:
    """Records in memory that may be away, and count what is asked."""

    def __init__(self) -> None:
        self.rows: dict[str, ApiKeyRecord] = {}
        self.asked: list[str] = []
        self.away = False
        self.used: list[dict[str, float]] = []

    async def get(self, key_id):
        self.asked.append(key_id)
        if self.away:
            raise StorageUnavailableError("away")
        return self.rows.get(key_id)

    async def note_used(self, times):
        if self.away:
            raise StorageUnavailableError("away")
        self.used.append(dict(times))


class World:
    def __init__(self, tmp_path) -> None:
        self.now = 1000.0
        self.records = Records()
        self.peppers = Peppers.load(tmp_path / "pepper")
        self.keys = KeyAuthenticator(self.records, self.peppers, monotonic=lambda: self.now)
        self.key = ApiKey.generate()
        self.record = ApiKeyRecord(
            id=self.key.id,
            tenant="acme",
            name="x",
            roles=("infer",),
            collections=None,
            pepper_id=self.peppers.active_id,
            digest=self.peppers.digest(self.key, self.peppers.active_id),
            created_at=0.0,
            created_by="test",
        )
        self.records.rows[self.key.id] = self.record

    def change(self, **fields) -> None:
        self.records.rows[self.key.id] = replace(self.record, **fields)

    def wrong(self, key_id: str) -> str:
        _, _, secret, _ = ApiKey.generate().text.split("_")
        start = f"aur_{key_id}_{secret}"
        return f"{start}_{_checksum(start)}"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_a_valid_key_is_looked_up_once_in_a_while(world):
    for _ in range(3):
        assert await world.keys.authenticate(world.key.text) == world.record
    assert len(world.records.asked) == 1
    world.now += FRESH_SECONDS
    await world.keys.authenticate(world.key.text)
    assert len(world.records.asked) == 2


async def test_a_key_revoked_elsewhere_is_refused_soon(world):
    await world.keys.authenticate(world.key.text)
    world.change(revoked_at=5.0)
    world.now += FRESH_SECONDS
    with pytest.raises(UnauthorizedError, match="revoked"):
        await world.keys.authenticate(world.key.text)


async def test_a_key_revoked_here_is_refused_at_once(world):
    await world.keys.authenticate(world.key.text)
    world.change(revoked_at=5.0)
    world.keys.forget(world.key.id)
    with pytest.raises(UnauthorizedError, match="revoked"):
        await world.keys.authenticate(world.key.text)


async def test_a_key_expires_at_once_although_it_is_known(world, monkeypatch):
    world.change(expires_at=clock.now() + 60)
    await world.keys.authenticate(world.key.text)
    at = clock.now() + 61
    monkeypatch.setattr(clock, "now", lambda: at)
    with pytest.raises(UnauthorizedError, match="expired"):
        await world.keys.authenticate(world.key.text)
    assert len(world.records.asked) == 1


async def test_a_wrong_secret_costs_the_same_whether_its_id_exists_or_not(world, monkeypatch):
    digests, comparisons = [], []
    digest, compare = Peppers.digest, key_authenticator.hmac.compare_digest

    def counted_digest(self, *arguments):
        digests.append(arguments)
        return digest(self, *arguments)

    def counted_compare(*arguments):
        comparisons.append([len(each) for each in arguments])
        return compare(*arguments)

    monkeypatch.setattr(Peppers, "digest", counted_digest)
    monkeypatch.setattr(key_authenticator.hmac, "compare_digest", counted_compare)
    # also while the right key is known well
    await world.keys.authenticate(world.key.text)
    costs = []
    for key_id in (world.key.id, "0" * 12):
        before = len(world.records.asked), len(digests), len(comparisons)
        with pytest.raises(UnauthorizedError) as caught:
            await world.keys.authenticate(world.wrong(key_id))
        assert caught.value.detail == "the API key is not valid"
        after = len(world.records.asked), len(digests), len(comparisons)
        costs.append([b - a for a, b in zip(before, after, strict=True)])
    assert costs == [[1, 1, 1], [1, 1, 1]]
    assert comparisons[-2:] == [[64, 64], [64, 64]]


async def test_a_malformed_key_asks_nobody(world):
    with pytest.raises(UnauthorizedError, match="malformed"):
        await world.keys.authenticate(world.key.text[:-1])
    assert world.records.asked == []


async def test_a_key_of_a_missing_pepper_is_refused(world, caplog):
    world.change(pepper_id="gone")
    with pytest.raises(UnauthorizedError):
        await world.keys.authenticate(world.key.text)
    assert "pepper" in caplog.text


async def test_while_the_records_are_away_a_known_key_is_good_for_a_while(world):
    await world.keys.authenticate(world.key.text)
    world.records.away = True
    asked = len(world.records.asked)
    for _ in range(10):
        world.now += FRESH_SECONDS / 2
        await world.keys.authenticate(world.key.text)
    # not every request waits for records that do not answer
    assert len(world.records.asked) - asked == 5
    with pytest.raises(StorageUnavailableError):
        await world.keys.authenticate(world.wrong(world.key.id))
    world.now += GRACE_SECONDS
    with pytest.raises(StorageUnavailableError):
        await world.keys.authenticate(world.key.text)


async def test_an_unknown_key_is_refused_with_503_while_the_records_are_away(world):
    world.records.away = True
    with pytest.raises(StorageUnavailableError):
        await world.keys.authenticate(world.key.text)


async def test_uses_are_written_together_and_kept_while_the_records_are_away(world):
    for _ in range(5):
        await world.keys.authenticate(world.key.text)
    world.records.away = True
    with pytest.raises(StorageUnavailableError):
        await world.keys.write_used()
    world.records.away = False
    await world.keys.write_used()
    await world.keys.write_used()
    assert [set(each) for each in world.records.used] == [{world.key.id}]


async def test_a_refused_key_was_not_used(world):
    world.change(revoked_at=5.0)
    with pytest.raises(UnauthorizedError):
        await world.keys.authenticate(world.key.text)
    await world.keys.write_used()
    assert world.records.used == []


async def test_the_local_key_looks_at_models_only(world, tmp_path):
    local = load_local_key(tmp_path / "local.key")
    assert load_local_key(tmp_path / "local.key") == local
    keys = KeyAuthenticator(world.records, world.peppers, local=local)
    record = await keys.authenticate(local.text)
    assert (record.tenant, record.roles) == ("default", ("infer",))
    assert await keys.authenticate(world.key.text) == world.record
    with pytest.raises(UnauthorizedError):
        await keys.authenticate(world.wrong(local.id))


def test_a_local_key_that_is_none_is_refused(tmp_path):
    (tmp_path / "local.key").write_text("secret")
    with pytest.raises(ConfigurationError, match=r"local\.key") as caught:
        load_local_key(tmp_path / "local.key")
    assert "secret" not in str(caught.value)

import asyncio
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.concurrency import BackgroundTasks
from gateway.errors import StorageUnavailableError
from gateway.outbound.documents import FetchError
from gateway.security.key_sets import (
    COOLDOWN_SECONDS,
    FRESH_SECONDS,
    STALE_SECONDS,
    KeySet,
    read_key_set,
)

ALGORITHMS = frozenset({"RS256", "ES256"})
KEY = rsa.generate_private_key(65537, 2048)
WRITE = jwt.algorithms.RSAAlgorithm.to_jwk


def public(key=KEY, **changes) -> dict:
    made = {**json.loads(WRITE(key.public_key())), "kid": "1", **changes}
    return {name: value for name, value in made.items() if value is not None}


def document(*keys: dict) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """Answers with a document, or fails; may hold its answers back."""

    def __init__(self) -> None:
        self.body: bytes | None = document(public())
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, url: str) -> bytes:
        self.asked += 1
        await self.open.wait()
        if self.body is None:
            raise FetchError("it did not answer")
        return self.body


class World:
    def __init__(self, background: BackgroundTasks) -> None:
        self.now = 0.0
        self.issuer = Issuer()
        self.keys = KeySet(
            "https://x/keys",
            sorted(ALGORITHMS),
            background,
            self.issuer.fetch,
            monotonic=lambda: self.now,
        )

    async def finds(self, key_id: str = "1") -> bool:
        return await self.keys.find(key_id, "RS256") is not None


@pytest.fixture
async def world():
    async with BackgroundTasks() as background:
        yield World(background)


async def test_keys_are_fetched_once_for_all_who_wait(world):
    world.issuer.open.clear()
    waiting = [asyncio.create_task(world.finds()) for _ in range(20)]
    await asyncio.sleep(0)
    # one that hangs up takes nothing from the others
    waiting[0].cancel()
    await asyncio.sleep(0)
    world.issuer.open.set()
    assert await asyncio.gather(*waiting[1:]) == [True] * 19
    assert world.issuer.asked == 1


async def test_old_keys_are_renewed_while_nobody_waits(world):
    assert await world.finds()
    world.now += FRESH_SECONDS + 1
    world.issuer.open.clear()
    assert await world.finds()
    world.issuer.body = document(public(kid="2"))
    world.issuer.open.set()
    while not await world.finds("2"):
        await asyncio.sleep(0)
    assert world.issuer.asked == 2


async def test_a_rotated_key_is_found_after_the_cooldown(world):
    assert await world.finds()
    world.issuer.body = document(public(), public(kid="2"))
    assert not await world.finds("2")
    world.now += COOLDOWN_SECONDS
    assert await world.finds("2")
    assert world.issuer.asked == 2


async def test_invented_key_ids_make_no_traffic(world):
    for _ in range(100):
        assert not await world.finds("x")
        world.now += COOLDOWN_SECONDS / 100
    assert world.issuer.asked <= 2


async def test_known_keys_stay_while_the_issuer_is_away(world):
    assert await world.finds()
    world.issuer.body = None
    for _ in range(3):
        world.now += FRESH_SECONDS + 1
        assert await world.finds()
    world.now = STALE_SECONDS + 1
    with pytest.raises(StorageUnavailableError):
        await world.finds()
    world.now += COOLDOWN_SECONDS
    world.issuer.body = document(public())
    assert await world.finds()


async def test_an_issuer_that_never_answered_is_asked_again_after_the_cooldown(world):
    world.issuer.body = None
    for _ in range(3):
        with pytest.raises(StorageUnavailableError):
            await world.finds()
    assert world.issuer.asked == 1
    world.now += COOLDOWN_SECONDS
    world.issuer.body = document(public())
    assert await world.finds()


async def test_an_answer_without_keys_does_not_replace_good_ones(world):
    assert await world.finds()
    world.issuer.body = document()
    world.now += FRESH_SECONDS + 1
    assert await world.finds()
    await asyncio.sleep(0)
    assert await world.finds()


def test_only_public_keys_for_signatures_are_taken():
    small = rsa.generate_private_key(65537, 1024)
    curve = ec.generate_private_key(ec.SECP384R1())
    private = json.loads(WRITE(KEY))
    entries = [
        public(kid="encryption", use="enc"),
        public(kid="other algorithm", alg="RS512"),
        public(small, kid="small"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "RS256"},
        {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"},
        {"kty": "RSA", "kid": "empty"},
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(curve.public_key())), "kid": "curve"},
        public(kid=7),
        {"kty": "EC", "crv": {"P-256": 1}, "kid": "no text"},
        "text",
        None,
    ]
    for entry in entries:
        with pytest.raises(FetchError, match="no key"):
            read_key_set(document(entry), ALGORITHMS)
    (found,) = read_key_set(document(*entries, {**private, "kid": "1"}), ALGORITHMS)
    assert (found.id, found.algorithm) == ("1", "RS256")
    # of a private key that was published by mistake, nothing but the public part
    assert not hasattr(found.key, "sign")


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"{}", b'{"keys": 7}', b"[" * 100_000, b"\xff", b'{"keys": {}}']
)
def test_other_documents_are_refused(body):
    with pytest.raises(FetchError):
        read_key_set(body, ALGORITHMS)


def test_too_many_keys_are_refused():
    with pytest.raises(FetchError, match="100"):
        read_key_set(document(*[public()] * 101), ALGORITHMS)

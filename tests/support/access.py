"""A gateway that asks for keys, and keys of two tenants: valid, expired, revoked, limited."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from gateway.records import clock
from gateway.records.factory import open_records
from gateway.security.factory import key_service
from gateway.security.key_service import KeyRequest, KeyService
from gateway.security.roles import Role
from gateway.settings import Settings
from gateway.types import NO_RATE_LIMITS, RateLimits
from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import serving
from tests.support.records import add_migrated_sqlite

MINE, OTHER = "acme", "initech"


@asynccontextmanager
async def managing(home: Path) -> AsyncIterator[KeyService]:
    """Manage the keys of a home, as `aurum keys` does."""
    file = home / "records.sqlite3"
    if not file.exists():
        add_migrated_sqlite(file)
    settings = Settings(home=home)
    records = await open_records(settings)
    try:
        yield key_service(settings, records)
    finally:
        await records.close()


async def new_key(
    keys: KeyService,
    *roles: str,
    tenant: str = MINE,
    collections: Sequence[str] | None = None,
    expires_in_seconds: float | None = None,
    limits: RateLimits = NO_RATE_LIMITS,
) -> str:
    """Make a key; returns its text."""
    request = KeyRequest(tenant, "of a test", roles, collections, expires_in_seconds, limits)
    return (await keys.create(request, by="test")).key.text


def bearer(key: str) -> dict[str, str]:
    """Write the header with a key."""
    return {"Authorization": f"Bearer {key}"}


@dataclass(frozen=True, slots=True)
class Keys:
    """Texts of keys: valid ones by role, of a tenant and of another one; and those refused."""

    mine: dict[Role, str]
    other: str
    refused: dict[str, str | None]

    @property
    def admin(self) -> str:
        """The key with all roles."""
        return self.mine[Role.ADMIN]


async def make_keys(home: Path, monkeypatch: Any) -> Keys:
    """Make all kinds of keys in a home."""
    async with managing(home) as keys:
        mine = {role: await new_key(keys, role) for role in Role}
        other = await new_key(keys, *Role, tenant=OTHER)
        revoked = await new_key(keys, *Role)
        await keys.revoke(revoked.split("_")[1], tenant=MINE, by="test")
        with monkeypatch.context() as patch:
            long_ago = clock.now() - 3600
            patch.setattr(clock, "now", lambda: long_ago)
            expired = await new_key(keys, *Role, expires_in_seconds=60)
    # the secret of one key with the id of another: both exist, and do not belong together
    wrong = await _mixed(mine[Role.ADMIN], other)
    return Keys(mine, other, {"none": None, "wrong": wrong, "expired": expired, "revoked": revoked})


async def _mixed(identified_by: str, secret_of: str) -> str:
    from gateway.security.api_keys import _checksum

    _, key_id, _, _ = identified_by.split("_")
    _, _, secret, _ = secret_of.split("_")
    start = f"aur_{key_id}_{secret}"
    return f"{start}_{_checksum(start)}"


@asynccontextmanager
async def guarded(
    home: Path, engine: FakeInference | None = None, **settings: Any
) -> AsyncIterator[ClientSession]:
    """Serve a gateway that asks for keys."""
    chosen = {"authentication": "on", "home": home, **settings}
    async with serving(engine or FakeInference(), Embedder(), **chosen) as client:
        yield client

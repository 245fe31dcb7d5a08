"""Checks API keys against the records.

Only keys that were valid are remembered, by a digest of the whole key: a wrong secret never meets
this memory, so it costs the same lookup and the same hash whether its id exists or not.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cachetools import LRUCache

from gateway.errors import (
    AurumError,
    ConfigurationError,
    StorageUnavailableError,
    UnauthorizedError,
)
from gateway.records import clock
from gateway.records.keys import ApiKeyRecord
from gateway.secret_files import make_secret_file, read_secret_file
from gateway.security.api_keys import ApiKey
from gateway.security.peppers import Peppers
from gateway.security.roles import Role
from gateway.types import DEFAULT_TENANT

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 2.0
"""A key that was revoked by another process is refused after this time."""
GRACE_SECONDS: Final = 300.0
"""While the records do not answer, keys that were valid within this time stay valid."""
_MOST_REMEMBERED: Final = 10_000
_NO_DIGEST: Final = "0" * 64
_REFUSED: Final = "the API key is not valid"


class Keys(Protocol):
    """What is asked of the records."""

    async def get(self, key_id: str) -> ApiKeyRecord | None:
        """Return a key of any tenant, in any state."""
        ...

    async def note_used(self, times: dict[str, float]) -> None:
        """Note when keys were last used."""
        ...


@dataclass(slots=True)
class _Valid:
    record: ApiKeyRecord
    checked_at: float
    ask_at: float


class KeyAuthenticator:
    """Says whose key it is."""

    def __init__(
        self,
        keys: Keys,
        peppers: Peppers,
        *,
        local: ApiKey | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """local: a further key, of the tools on this machine, with the role `infer`."""
        self._keys = keys
        self._peppers = peppers
        self._local = local
        self._monotonic = monotonic
        self._own_secret = secrets.token_bytes(32)
        self._valid: LRUCache[bytes, _Valid] = LRUCache(_MOST_REMEMBERED)
        self._used: dict[str, float] = {}

    async def authenticate(self, text: str) -> ApiKeyRecord:
        """Return the record of a valid key.

        Raises:
            UnauthorizedError: it is malformed, wrong, revoked or expired.
            StorageUnavailableError: the records do not answer, and the key is not known well
                enough to be trusted without them.

        """
        key = ApiKey.parse(text)
        if key is None:
            raise UnauthorizedError(f"{_REFUSED}: it is malformed, perhaps cut off")
        if self._local is not None and hmac.compare_digest(key.text, self._local.text):
            return _LOCAL
        record = await self._find(key)
        now = clock.now()
        if record.revoked_at is not None:
            raise UnauthorizedError(f"API key {key.id} was revoked")
        if not record.is_valid(at=now):
            raise UnauthorizedError(f"API key {key.id} has expired")
        self._used[record.id] = now
        return record

    def forget(self, key_id: str) -> None:
        """Look a key up again at its next use, because it was changed."""
        for name in [name for name, each in self._valid.items() if each.record.id == key_id]:
            del self._valid[name]

    async def write_used(self) -> None:
        """Write when keys were last used; raises as the records, and keeps the times then."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._keys.note_used(used)
        except AurumError:
            self._used = used | self._used
            raise

    async def _find(self, key: ApiKey) -> ApiKeyRecord:
        name = hmac.digest(self._own_secret, key.text.encode(), hashlib.sha256)
        known = self._valid.get(name)
        now = self._monotonic()
        if known is not None and now < known.ask_at:
            return known.record
        try:
            record = await self._keys.get(key.id)
        except StorageUnavailableError:
            if known is None or now > known.checked_at + GRACE_SECONDS:
                raise
            # the next requests do not wait for records that are away
            known.ask_at = now + FRESH_SECONDS
            return known.record
        if not self._matches(key, record) or record is None:
            self._valid.pop(name, None)
            raise UnauthorizedError(_REFUSED)
        self._valid[name] = _Valid(record, now, now + FRESH_SECONDS)
        return record

    def _matches(self, key: ApiKey, record: ApiKeyRecord | None) -> bool:
        pepper_id = self._peppers.active_id if record is None else record.pepper_id
        is_there = pepper_id in self._peppers.by_id
        if not is_there:
            log.warning("the pepper of a key is missing", extra={"pepper": pepper_id})
        expected = _NO_DIGEST if record is None else record.digest
        return hmac.compare_digest(expected, self._peppers.digest(key, pepper_id)) and is_there


def load_local_key(file: Path) -> ApiKey:
    """Read the key of this machine's tools, or make it; raises ConfigurationError."""
    if not file.exists():
        make_secret_file(file, f"{ApiKey.generate().text}\n".encode())
    key = ApiKey.parse(read_secret_file(file, str(file)).strip())
    if key is None:
        raise ConfigurationError(f"{file} is no API key; delete it, and the gateway makes one")
    return key


_LOCAL: Final = ApiKeyRecord(
    id="local",
    tenant=DEFAULT_TENANT,
    name="tools of this machine",
    roles=(Role.INFER,),
    collections=None,
    pepper_id="",
    digest="",
    created_at=0.0,
    created_by="gateway",
)

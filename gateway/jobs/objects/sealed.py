"""Seals the objects of another store: what is stored is useless without the key.

Layout of a sealed object: the format's mark, the key's id, the nonce, the encrypted bytes.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Final

from gateway.errors import ConfigurationError
from gateway.jobs.objects.base import ObjectStore
from gateway.records.encryption import KEY_ID_CHARACTERS, NONCE_BYTES, DataCipher
from gateway.records.types import SealedBytes

_MARK: Final = b"AURUM1"
_KEY_ID_AT: Final = len(_MARK)
_NONCE_AT: Final = _KEY_ID_AT + KEY_ID_CHARACTERS
_SEALED_AT: Final = _NONCE_AT + NONCE_BYTES


class SealedObjects:
    """An `ObjectStore` whose objects are encrypted, each bound to its key."""

    def __init__(self, store: ObjectStore, cipher: DataCipher) -> None:
        self._store = store
        self._cipher = cipher

    async def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore.put`."""
        # megabytes take milliseconds: not on the event loop
        await self._store.put(key, await asyncio.to_thread(self._seal, key, data))

    async def flush(self, job_id: str) -> None:
        """See `ObjectStore.flush`."""
        await self._store.flush(job_id)

    async def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        return await asyncio.to_thread(self._open, key, await self._store.get(key))

    async def start(self, key: str, size: int) -> bytes:
        """Return the first bytes as they are stored, sealed; see `ObjectStore.start`."""
        return await self._store.start(key, size)

    async def keys(self, job_id: str) -> Collection[str]:
        """See `ObjectStore.keys`."""
        return await self._store.keys(job_id)

    async def key_id(self, key: str) -> str:
        """Return the id of the storage key of an object; empty for one that is not sealed.

        Raises ObjectMissingError.
        """
        start = await self._store.start(key, _NONCE_AT)
        if not start.startswith(_MARK) or len(start) < _NONCE_AT:
            return ""
        return start[_KEY_ID_AT:].decode("ascii", "replace")

    async def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        await self._store.delete(keys)

    async def delete_job(self, job_id: str) -> None:
        """See `ObjectStore.delete_job`."""
        await self._store.delete_job(job_id)

    async def jobs(self) -> Collection[str]:
        """See `ObjectStore.jobs`."""
        return await self._store.jobs()

    async def health(self) -> None:
        """See `ObjectStore.health`."""
        await self._store.health()

    async def close(self) -> None:
        """See `ObjectStore.close`."""
        await self._store.close()

    def _seal(self, key: str, data: bytes) -> bytes:
        sealed = self._cipher.seal(key, data)
        return b"".join((_MARK, sealed.key_id.encode(), sealed.nonce, sealed.sealed))

    def _open(self, key: str, stored: bytes) -> bytes:
        if not stored.startswith(_MARK) or len(stored) < _SEALED_AT:
            raise ConfigurationError(f"the object {key} was not sealed by this service")
        key_id = stored[_KEY_ID_AT:_NONCE_AT].decode("ascii", "replace")
        nonce = stored[_NONCE_AT:_SEALED_AT]
        return self._cipher.open(key, SealedBytes(key_id, nonce, stored[_SEALED_AT:]))

"""Encrypts crops, uploaded images, results and metadata before they are stored.

AES-256-GCM with keys that lie beside the data, not in it. `DataCipher` is what a key management
service would implement instead.
"""

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ConfigurationError
from gateway.records.key_ring import FILE_VARIABLE, VARIABLE, KeyRing
from gateway.records.key_ring import KEY_ID_CHARACTERS as KEY_ID_CHARACTERS
from gateway.records.types import SealedBytes
from gateway.settings import Settings

NONCE_BYTES: Final = 12
log = logging.getLogger(__name__)
Version = tuple[int, int, int] | None
"""Of a file: its inode, size and time of change; None without a file."""


class DataCipher(Protocol):
    """Encrypts bytes, each bound to a name: sealed bytes open under their own name only.

    Names never clash: a crop has the id of its face, an uploaded image the key of its object
    (`job/index`), a result `result/job/index`, metadata `metadata/…` (`metadata_seal`), an
    entry of a do-not-enrol list `refusal/id` and `refusal-crop/id`.
    """

    @property
    def current_key_id(self) -> str:
        """Id of the key with which `seal` encrypts."""
        ...

    def knows(self, key_id: str) -> bool:
        """Whether there is a key with this id."""
        ...

    def seal(self, name: str, data: bytes) -> SealedBytes:
        """Encrypt."""
        ...

    def open(self, name: str, sealed: SealedBytes) -> bytes:
        """Decrypt; raises ConfigurationError for an unknown key, another name, changed bytes."""
        ...

    def index_key(self) -> bytes:
        """Return the secret of the blind index, 32 bytes; it does not change."""
        ...


class RingCipher:
    """A cipher with the keys of a ring, read anew when its file has changed."""

    def __init__(
        self, read: Callable[[], KeyRing], version: Callable[[], Version] = lambda: None
    ) -> None:
        """Use the ring that `read` returns, and ask it again when `version` changes."""
        self._read = read
        self._version = version
        self._state = self._load()
        self._seen = version()

    def _load(self) -> tuple[KeyRing, dict[str, AESGCM]]:
        ring = self._read()
        return ring, {key_id: AESGCM(key) for key_id, key in ring.by_id.items()}

    def _refresh(self) -> tuple[KeyRing, dict[str, AESGCM]]:
        """Return the keys, of the file as it is now.

        One that is gone or cannot be used changes nothing: the keys that are known stay in use.
        """
        seen = self._version()
        if seen not in (None, self._seen):
            self._seen = seen
            try:
                self._state = self._load()
            except ConfigurationError as error:
                log.warning("the storage keys stay as they were", extra={"reason": str(error)})
        return self._state

    @property
    def current_key_id(self) -> str:
        """See `DataCipher.current_key_id`."""
        return self._refresh()[0].current_id

    @property
    def ring(self) -> KeyRing:
        """The keys as they are now."""
        return self._refresh()[0]

    def knows(self, key_id: str) -> bool:
        """See `DataCipher.knows`."""
        return key_id in self._refresh()[1]

    def seal(self, name: str, data: bytes) -> SealedBytes:
        """See `DataCipher.seal`."""
        ring, ciphers = self._refresh()
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = ciphers[ring.current_id].encrypt(nonce, data, name.encode())
        return SealedBytes(ring.current_id, nonce, sealed)

    def open(self, name: str, sealed: SealedBytes) -> bytes:
        """See `DataCipher.open`."""
        # another process may have sealed it with a key that was made a moment ago
        cipher = self._state[1].get(sealed.key_id) or self._refresh()[1].get(sealed.key_id)
        if cipher is None:
            message = (
                f"{FILE_VARIABLE}, {VARIABLE}: {name} was sealed with key {sealed.key_id}, which "
                "is not among the storage keys"
            )
            raise ConfigurationError(message)
        try:
            return cipher.decrypt(sealed.nonce, sealed.sealed, name.encode())
        except (InvalidTag, ValueError) as error:
            raise ConfigurationError(f"the sealed bytes of {name} were changed") from error

    def index_key(self) -> bytes:
        """See `DataCipher.index_key`."""
        return self._state[0].index_key


class FileKeyCipher(RingCipher):
    """A cipher whose keys are in a file that only the owner can read."""

    @classmethod
    def load(cls, file: Path) -> "FileKeyCipher":
        """Read the keys, or create one if there is none."""
        return cls(lambda: KeyRing.load(file), lambda: _version(file))


def storage_key_file(settings: Settings) -> Path:
    """Return the file of the storage keys."""
    return settings.crop_key_file or settings.home / "keys" / "crops.key"


def load_cipher(settings: Settings) -> RingCipher:
    """Open the cipher with the keys of this installation; a key is made where there is none."""
    if settings.storage_keys is not None:
        ring = KeyRing.parse(settings.storage_keys.get_secret_value().encode(), VARIABLE)
        return RingCipher(lambda: ring)
    return FileKeyCipher.load(storage_key_file(settings))


def _version(file: Path) -> Version:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns

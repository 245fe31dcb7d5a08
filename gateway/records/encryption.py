"""Encrypts crops, uploaded images and results before they are stored.

AES-256-GCM with the key of a file that lies beside the data, not in it. `DataCipher` is what a key
management service would implement instead.
"""

import os
import secrets
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ConfigurationError
from gateway.records.types import SealedBytes
from gateway.settings import Settings

_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
KEY_ID_CHARACTERS: Final = 16


class DataCipher(Protocol):
    """Encrypts bytes, each bound to a name: sealed bytes open under their own name only.

    Names never clash: a crop has the id of its face, an uploaded image the key of its object
    (`job/index`), a result `result/job/index`, an entry of a do-not-enrol list `refusal/id` and
    `refusal-crop/id`.
    """

    def seal(self, name: str, data: bytes) -> SealedBytes:
        """Encrypt."""
        ...

    def open(self, name: str, sealed: SealedBytes) -> bytes:
        """Decrypt; raises ConfigurationError for another key or name, or changed bytes."""
        ...


class FileKeyCipher:
    """A cipher whose key is 32 bytes in a file that only the owner can read."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            message = f"AURUM_CROP_KEY_FILE: a key has {_KEY_BYTES} bytes, not {len(key)}"
            raise ConfigurationError(message)
        self._cipher = AESGCM(key)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(b"aurum crop key id" + key)
        self._key_id = digest.finalize().hex()[:KEY_ID_CHARACTERS]

    @classmethod
    def load(cls, file: Path) -> "FileKeyCipher":
        """Read the key, or create one if there is none."""
        try:
            return cls(file.read_bytes())
        except FileNotFoundError:
            pass
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = file.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(secrets.token_bytes(_KEY_BYTES))
            handle.flush()
            os.fsync(handle.fileno())
        try:
            # of two processes that start at once, one key wins: link fails if the name exists
            os.link(temporary, file)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        return cls(file.read_bytes())

    def seal(self, name: str, data: bytes) -> SealedBytes:
        """See `DataCipher.seal`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return SealedBytes(self._key_id, nonce, self._cipher.encrypt(nonce, data, name.encode()))

    def open(self, name: str, sealed: SealedBytes) -> bytes:
        """See `DataCipher.open`."""
        if sealed.key_id != self._key_id:
            message = f"AURUM_CROP_KEY_FILE: {name} was sealed with key {sealed.key_id}"
            raise ConfigurationError(message)
        try:
            return self._cipher.decrypt(sealed.nonce, sealed.sealed, name.encode())
        except (InvalidTag, ValueError) as error:
            raise ConfigurationError(f"the sealed bytes of {name} were changed") from error


def load_cipher(settings: Settings) -> FileKeyCipher:
    """Open the cipher with the key of this installation, which is created where there is none."""
    return FileKeyCipher.load(settings.crop_key_file or settings.home / "keys" / "crops.key")

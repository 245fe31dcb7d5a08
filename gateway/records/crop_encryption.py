"""Encrypts crops before they reach the database.

AES-256-GCM with the key of a file that lies beside the database, not in it. `CropCipher` is what
a key management service would implement instead.
"""

import os
import secrets
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ConfigurationError
from gateway.records.types import SealedCrop

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class CropCipher(Protocol):
    """Encrypts crops, each bound to its face id."""

    def seal(self, face_id: str, crop: bytes) -> SealedCrop:
        """Encrypt one crop."""
        ...

    def open(self, crop: SealedCrop) -> bytes:
        """Decrypt one crop; raises ConfigurationError if the key is wrong."""
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
        self._key_id = digest.finalize().hex()[:16]

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

    def seal(self, face_id: str, crop: bytes) -> SealedCrop:
        """See `CropCipher.seal`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, crop, face_id.encode())
        return SealedCrop(face_id, self._key_id, nonce, sealed)

    def open(self, crop: SealedCrop) -> bytes:
        """See `CropCipher.open`."""
        if crop.key_id != self._key_id:
            message = f"AURUM_CROP_KEY_FILE: crops were sealed with key {crop.key_id}"
            raise ConfigurationError(message)
        try:
            return self._cipher.decrypt(crop.nonce, crop.sealed, crop.face_id.encode())
        except InvalidTag as error:
            message = f"the crop of face {crop.face_id} was changed"
            raise ConfigurationError(message) from error

"""The storage keys: one seals what is written, all of them open what is read.

A ring is the text of a file or of a variable, with an entry for each key. An entry is 64
hexadecimal digits; the last one is current. Its id is derived from the key, so that no entry can
pass for another. An entry `index:<64 digits>` is the key of the blind index (`metadata_seal`),
which is not rotated. A file of exactly 32 bytes is a ring of one key, as Aurum wrote it before
there were rings.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from gateway.errors import ConfigurationError
from gateway.secret_files import make_secret_file, replace_secret_file

FILE_VARIABLE: Final = "AURUM_CROP_KEY_FILE"
VARIABLE: Final = "AURUM_STORAGE_KEYS"
KEY_ID_CHARACTERS: Final = 16
_KEY_BYTES: Final = 32
_ENTRY: Final = re.compile(r"(index:)?([0-9a-f]{64})")
_ID_CONTEXT: Final = b"aurum crop key id"
_INDEX_CONTEXT: Final = b"aurum metadata index"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys of 32 bytes by id, the id of the current one, and the key of the blind index."""

    by_id: Mapping[str, bytes] = field(repr=False)
    current_id: str
    index_key: bytes = field(repr=False)

    @classmethod
    def of(cls, *keys: bytes, index_key: bytes | None = None) -> Self:
        """Make a ring of keys, the last one current; without an index key the first makes it.

        Raises ConfigurationError for keys of another length and for none.
        """
        if not keys:
            raise ConfigurationError("there is no storage key")
        for key in (*keys, index_key or keys[0]):
            if len(key) != _KEY_BYTES:
                message = f"a storage key has {_KEY_BYTES} bytes, not {len(key)}"
                raise ConfigurationError(message)
        by_id = {key_id(key): key for key in keys}
        if index_key is None:
            index_key = hashlib.sha256(_INDEX_CONTEXT + keys[0]).digest()
        return cls(by_id, key_id(keys[-1]), index_key)

    @classmethod
    def parse(cls, content: bytes, name: str) -> Self:
        """Read a ring; raises ConfigurationError that names `name`, never the content."""
        if len(content) == _KEY_BYTES:
            return cls.of(content)
        keys: list[bytes] = []
        index_key = None
        try:
            entries = content.decode("ascii").replace(",", " ").split()
        except UnicodeDecodeError:
            entries = ["?"]
        for number, entry in enumerate(entries, 1):
            found = _ENTRY.fullmatch(entry)
            if found is None or (found[1] and index_key is not None):
                # not chained and not quoted: it may be a key with a slip
                message = (
                    f"{name}: entry {number} is not a storage key (64 hexadecimal digits; a file "
                    f"may also be one key of {_KEY_BYTES} bytes)"
                )
                raise ConfigurationError(message) from None
            if found[1]:
                index_key = bytes.fromhex(found[2])
            else:
                keys.append(bytes.fromhex(found[2]))
        if not keys:
            raise ConfigurationError(f"{name}: there is no storage key in it")
        return cls.of(*keys, index_key=index_key)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the file, or make it with one key; of several processes at once, one makes it.

        Raises ConfigurationError.
        """
        name = f"{FILE_VARIABLE}: {file}"
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            make_secret_file(file, secrets.token_bytes(_KEY_BYTES))
            content = file.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{name}: {error.strerror}") from error
        return cls.parse(content, name)

    def with_new_key(self) -> Self:
        """Add a key, which becomes the current one."""
        return self.of(
            *self.by_id.values(), secrets.token_bytes(_KEY_BYTES), index_key=self.index_key
        )

    def without(self, *key_ids: str) -> Self:
        """Remove keys; raises ConfigurationError if the current one is among them."""
        if self.current_id in key_ids:
            raise ConfigurationError("the current storage key cannot be retired")
        kept = [key for each, key in self.by_id.items() if each not in key_ids]
        return self.of(*kept, index_key=self.index_key)

    def save(self, file: Path) -> None:
        """Replace the file at once; readers see the old ring or this one."""
        lines = [f"index:{self.index_key.hex()}", *(key.hex() for key in self.by_id.values())]
        replace_secret_file(file, "".join(f"{line}\n" for line in lines).encode())


def key_id(key: bytes) -> str:
    """Return the id of a key, 16 hexadecimal digits, which tells nothing about it."""
    return hashlib.sha256(_ID_CONTEXT + key).hexdigest()[:KEY_ID_CHARACTERS]

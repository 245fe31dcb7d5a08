"""Peppers: secrets of the installation under which API keys are hashed.

A database that leaks without this file does not let anybody check guesses, and nobody who can
write to the database only can forge a key. The file has a line `<id> <64 hexadecimal digits>` for
each pepper; new keys use the last one.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from gateway.secret_files import new_key_line, read_keys, read_secret_file, replace_secret_file
from gateway.security.api_keys import ApiKey

VARIABLE: Final = "AURUM_API_KEY_PEPPER_FILE"
_CONTEXT: Final = b"aurum api key\0"


@dataclass(frozen=True, slots=True)
class Peppers:
    """All peppers by id, and the id of the one that new keys use."""

    by_id: Mapping[str, bytes] = field(repr=False)
    active_id: str

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the file, or make it with one pepper; raises ConfigurationError."""
        by_id = read_keys(file, VARIABLE)
        return cls(by_id, list(by_id)[-1])

    @classmethod
    def add(cls, file: Path) -> Self:
        """Add a pepper for new keys; keys of the other ones stay valid."""
        cls.load(file)
        text = read_secret_file(file, VARIABLE)
        replace_secret_file(file, f"{text.rstrip()}\n{new_key_line()}".encode())
        return cls.load(file)

    def digest(self, key: ApiKey, pepper_id: str) -> str:
        """HMAC-SHA-256 of a key, hexadecimal.

        Under a pepper that is not there, that of the active one, at the same cost.
        """
        pepper = self.by_id.get(pepper_id, self.by_id[self.active_id])
        return hmac.new(pepper, _CONTEXT + key.text.encode(), hashlib.sha256).hexdigest()

"""Peppers: secrets of the installation under which API keys are hashed.

A database that leaks without this file does not let anybody check guesses, and nobody who can
write to the database only can forge a key. The file has a line `<id> <64 hexadecimal digits>` for
each pepper; new keys use the last one.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from gateway.errors import ConfigurationError
from gateway.secret_files import make_secret_file, read_secret_file, replace_secret_file
from gateway.security.api_keys import ApiKey

VARIABLE: Final = "AURUM_API_KEY_PEPPER_FILE"
_LINE: Final = re.compile(r"([0-9a-z]{1,16}) ([0-9a-f]{64})")
_CONTEXT: Final = b"aurum api key\0"


@dataclass(frozen=True, slots=True)
class Peppers:
    """All peppers by id, and the id of the one that new keys use."""

    by_id: Mapping[str, bytes] = field(repr=False)
    active_id: str

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the file, or make it with one pepper; raises ConfigurationError."""
        if not file.exists():
            make_secret_file(file, _line().encode())
        by_id: dict[str, bytes] = {}
        for number, line in enumerate(read_secret_file(file, VARIABLE).splitlines(), 1):
            found = _LINE.fullmatch(line.strip())
            if found is None or found[1] in by_id:
                message = (
                    f"{VARIABLE}: line {number} of {file} is not `<id> <64 hexadecimal digits>` "
                    "with an id of its own"
                )
                raise ConfigurationError(message)
            by_id[found[1]] = bytes.fromhex(found[2])
        if not by_id:
            raise ConfigurationError(f"{VARIABLE}: {file} is empty")
        return cls(by_id, list(by_id)[-1])

    @classmethod
    def add(cls, file: Path) -> Self:
        """Add a pepper for new keys; keys of the other ones stay valid."""
        cls.load(file)
        text = read_secret_file(file, VARIABLE)
        replace_secret_file(file, f"{text.rstrip()}\n{_line()}".encode())
        return cls.load(file)

    def digest(self, key: ApiKey, pepper_id: str) -> str:
        """HMAC-SHA-256 of a key, hexadecimal.

        Under a pepper that is not there, that of the active one, at the same cost.
        """
        pepper = self.by_id.get(pepper_id, self.by_id[self.active_id])
        return hmac.new(pepper, _CONTEXT + key.text.encode(), hashlib.sha256).hexdigest()


def _line() -> str:
    return f"{secrets.token_hex(4)} {secrets.token_hex(32)}\n"

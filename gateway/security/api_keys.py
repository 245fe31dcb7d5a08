"""The format of API keys: `aur_<id>_<secret>_<checksum>`.

The checksum tells a mistyped or cut key from a wrong one without looking anything up, and lets
scanners of repositories recognise a leaked key. Only the secret makes a key valid.
"""

import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Final, Self

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_CHARACTERS: Final = 12
_SECRET_BITS: Final = 256
_SECRET_CHARACTERS: Final = 43
"""62 ** 43 > 2 ** 256."""
_CHECKSUM_CHARACTERS: Final = 6
"""62 ** 6 > 2 ** 32."""
PREFIX: Final = "aur_"
PATTERN: Final = re.compile(
    rf"aur_([0-9a-z]{{{_ID_CHARACTERS}}})_([0-9A-Za-z]{{{_SECRET_CHARACTERS}}})"
    rf"_([0-9A-Za-z]{{{_CHECKSUM_CHARACTERS}}})"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A whole key; its secret is in no `repr`."""

    id: str
    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}_…"

    @classmethod
    def generate(cls) -> Self:
        """Make a new key with 256 random bits."""
        key_id = "".join(secrets.choice(_ID_DIGITS) for _ in range(_ID_CHARACTERS))
        secret = _base62(secrets.randbits(_SECRET_BITS), _SECRET_CHARACTERS)
        start = f"{PREFIX}{key_id}_{secret}"
        return cls(key_id, f"{start}_{_checksum(start)}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a key; None for a text that no gateway made."""
        found = PATTERN.fullmatch(text)
        if found is None or _checksum(text[: found.end(2)]) != found[3]:
            return None
        return cls(found[1], text)


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))

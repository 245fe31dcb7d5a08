"""Rank 3: what subjects may be called: what people are called, and what cannot be mistaken.

A name is a record's key, a part of a path and a text on a screen. What is not seen (control
characters, spaces at the ends) or changes how the rest is seen (marks of direction) is refused;
writing the same name in two ways (composed and decomposed accents) gives one name.
"""

import unicodedata
from typing import Final

MAX_NAME: Final = 128
MAX_TEXT: Final = 200
_REFUSED: Final = {
    "Cc": "a control character",
    "Cf": "a character that is not seen",
    "Cs": "half a character",
    "Zl": "a line break",
    "Zp": "a line break",
}
_JOINERS: Final = frozenset("\u200c\u200d")
"""Not seen either, but Persian, Hindi and other names are spelled with them."""

_REFUSED_CLASS: Final = (
    r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e"
    r"\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0001\U000e0020-\U000e007f"
)
"""The characters of `_REFUSED`, as a regular expression has them; a test compares the two."""
_SPACE_CLASS: Final = r" \xa0\u1680\u2000-\u200a\u200c\u200d\u202f\u205f\u3000"
_END: Final = f"[^{_REFUSED_CLASS}{_SPACE_CLASS}]"
TEXT_PATTERN: Final = f"^{_END}(?:[^{_REFUSED_CLASS}]*{_END})?$"
"""What `short_text` takes, but for its length; for documents."""
NAME_PATTERN: Final = r"^(?!\.{1,2}$)" + TEXT_PATTERN[1:]
"""What `subject_name` takes, but for its length."""


def subject_name(text: str) -> str:
    """The name of a subject in one form (Unicode NFC); raises ValueError saying what is wrong."""
    name = _clean(text, MAX_NAME)
    if name in (".", ".."):
        message = f"{name!r} is no name: paths give it a meaning of its own"
        raise ValueError(message)
    return name


def short_text(text: str) -> str:
    """A text for people to read, in one form; raises ValueError saying what is wrong."""
    return _clean(text, MAX_TEXT)


def _clean(text: str, most: int) -> str:
    for character in text:
        kind = _REFUSED.get(unicodedata.category(character))
        if kind is not None and character not in _JOINERS:
            message = f"{kind} (U+{ord(character):04X}) may not be in it"
            raise ValueError(message)
    clean = unicodedata.normalize("NFC", text)
    if not 1 <= len(clean) <= most:
        message = f"it has {len(clean)} characters, 1 to {most} may be"
        raise ValueError(message)
    if any(end.isspace() or end in _JOINERS for end in (clean[0], clean[-1])):
        raise ValueError("it begins or ends with a space or a character that is not seen")
    return clean

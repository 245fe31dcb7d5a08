"""Valid names of subjects: names of people that cannot be confused with others.

A name is a record's key, a part of a path and a text on a screen. What is not seen (control
characters, spaces at the ends) or changes how the rest is seen (marks of direction) is refused;
writing the same name in two ways (composed and decomposed accents) gives one name.
"""

import re
import unicodedata
from pathlib import PurePosixPath
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
_MOST_PARTS: Final = 4
"""Characters that NFC makes one of, at most."""
_JOINERS: Final = frozenset("\u200c\u200d")
"""Invisible, too, but part of the spelling of Persian, Hindi and other names."""
_NUMBER: Final = re.compile(r"[ _.-]*(\d+|\(\d+\))$")


def subject_name(text: str) -> str:
    """Return the name of a subject in Unicode NFC; raises ValueError that says what is wrong."""
    name = _clean(text, MAX_NAME)
    if name in (".", ".."):
        message = f"{name!r} is no name: paths give it a meaning of its own"
        raise ValueError(message)
    return name


def subject_of_folder(path: str) -> str:
    """Name the subject by `folder_of`; raises ValueError, also if that is no subject's name."""
    return subject_name(folder_of(path))


def subject_of_file(path: str) -> str:
    """Name the subject by `unnumbered`; raises ValueError, also if that is no subject's name."""
    return subject_name(unnumbered(path))


def folder_of(path: str) -> str:
    """Return the name of the folder that holds a photo: `ada` for `people/ada/1.jpg`.

    Raises ValueError if there is none.
    """
    folder = PurePosixPath(path).parent.name
    if not folder or folder == "..":
        raise ValueError("its path has no folder that names the subject")
    return folder


def unnumbered(path: str) -> str:
    """Return the name of a photo without suffix and number: `ada` for `people/ada_2.jpg`.

    Raises ValueError if nothing is left.
    """
    name = _NUMBER.sub("", PurePosixPath(path).stem).strip()
    if not name or name == "-":
        raise ValueError("its name has nothing but a number")
    return name


def subject_in(source: str, path: str) -> str | None:
    """Return the subject that a photo's path names, by `folder` or `name`; None if none."""
    try:
        return subject_of_folder(path) if source == "folder" else subject_of_file(path)
    except ValueError:
        return None


def short_text(text: str) -> str:
    """Return a text in Unicode NFC; raises ValueError that says what is wrong."""
    return _clean(text, MAX_TEXT)


def _clean(text: str, most: int) -> str:
    if len(text) > _MOST_PARTS * most:
        # too long even when composed, so that megabytes of text are not normalised
        message = f"it has {len(text)} characters, 1 to {most} may be"
        raise ValueError(message)
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

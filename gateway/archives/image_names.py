"""What counts as an image: the first bytes of one, or the name of one."""

from pathlib import PurePosixPath
from typing import Final

from triton_python_backend.formats.reader import sniff

HEAD_BYTES: Final = 32
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})


def is_image(name: str, head: bytes) -> bool:
    """Whether to ask about a file that begins with `head` (`HEAD_BYTES` of it).

    A damaged photo counts by its name, so that it is reported instead of skipped.
    """
    return sniff(head) is not None or is_image_name(name)


def is_image_name(name: str) -> bool:
    """Whether a file is named like an image."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether it belongs to a system rather than to a person: `.git/…`, `__MACOSX/._a.jpg`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)

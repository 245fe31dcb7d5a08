"""Images as callers have them: paths, bytes, files or URLs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional, Union


@dataclass(frozen=True)
class ImageUrl:
    """An image that the service fetches, if its operator allows it; http or https."""

    url: str


ImageSource = Union[str, os.PathLike[str], bytes, bytearray, memoryview, BinaryIO, ImageUrl]
"""A path, the encoded bytes, a file opened in binary mode, or an `ImageUrl`."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
)
_UNKNOWN = "image/x-unknown"
"""The service decides by the bytes, and explains what it does not support."""


@dataclass(frozen=True)
class Picture:
    """An encoded image in memory, or where the service finds it."""

    data: bytes
    name: Optional[str]
    """File name, if known."""
    url: Optional[str] = None
    """Where the service finds it; `data` is empty then."""

    @property
    def media_type(self) -> str:
        """The media type, by the first bytes."""
        for signature, media_type in _SIGNATURES:
            if self.data.startswith(signature):
                return media_type
        return _UNKNOWN


def read_picture(source: ImageSource) -> Picture:
    """Read an image into memory; a file is read from its current position.

    Raises:
        OSError: the file cannot be read.
        TypeError: the source is none of `ImageSource`, or a file in text mode.

    """
    if isinstance(source, ImageUrl):
        return Picture(b"", None, source.url)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Picture(bytes(source), None)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return Picture(path.read_bytes(), path.name)
    if not hasattr(source, "read"):
        raise TypeError(f"an image is a path, bytes or a binary file, not {type(source).__name__}")
    data = source.read()
    if not isinstance(data, bytes):
        raise TypeError("open the image in binary mode")
    name = getattr(source, "name", None)
    return Picture(data, os.path.basename(name) if isinstance(name, str) else None)

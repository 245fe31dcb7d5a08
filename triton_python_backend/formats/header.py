"""The result of every format's reader, and its errors."""

from dataclasses import dataclass
from typing import Final, Literal

Format = Literal["JPEG", "PNG", "WEBP", "BMP"]

MAX_PIECES: Final = 16_384
"""Largest number of segments or chunks to read. A photo of 10 MiB in pieces of 1 KiB has 10,240; a
malicious file of empty pieces would have millions."""

SLOW_NANOSECONDS: Final = 400_000_000
"""Above this estimated cost an image is decoded on the slow lane, and only once."""

_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
"""Orientations that exchange width and height."""


class InvalidImageError(ValueError):
    """The bytes are not a decodable image; the text says why."""


class UnknownFormatError(InvalidImageError):
    """The bytes have none of the supported formats."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The bytes that a decoder needs, without metadata and trailing data.

    prefix and suffix enclose the slices, which are (start, end) in the file.
    """

    slices: tuple[tuple[int, int], ...]
    prefix: bytes = b""
    suffix: bytes = b""

    def of(self, data: bytes) -> bytes:
        """Assemble the stream from a file; returns the file itself if it needs no change."""
        if not self.prefix and not self.suffix and self.slices == ((0, len(data)),):
            return data
        return b"".join(
            (self.prefix, *(data[start:end] for start, end in self.slices), self.suffix)
        )


def joined(slices: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join adjacent slices of a file."""
    result: list[tuple[int, int]] = []
    for start, end in slices:
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Header:
    """The properties of an image that are known before its pixels are decoded.

    format: by content. stored_width, stored_height: pixels as stored. orientation: Exif's 1 to 8;
    1 without an Exif block. cost: estimated nanoseconds to decode, on one core. stream: the bytes
    for the decoder. is_cut: whether a JPEG has no end marker; its pixels may still be complete.
    """

    format: Format
    stored_width: int
    stored_height: int
    orientation: int
    cost: int
    stream: Stream
    is_cut: bool = False

    @property
    def width(self) -> int:
        """Width of the upright image."""
        return self.stored_height if self.orientation in _SIDEWAYS else self.stored_width

    @property
    def is_slow(self) -> bool:
        """Whether decoding takes so long that other requests should not wait for it."""
        return self.cost > SLOW_NANOSECONDS

    @property
    def height(self) -> int:
        """Height of the upright image."""
        return self.stored_width if self.orientation in _SIDEWAYS else self.stored_height

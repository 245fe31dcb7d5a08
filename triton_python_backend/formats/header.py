"""The answer of every format's reader, and its errors."""

from dataclasses import dataclass
from typing import Final, Literal

Format = Literal["JPEG", "PNG", "WEBP", "BMP"]

MAX_PIECES: Final = 16_384
"""Segments or chunks of a file that are walked. A photo of 10 MiB in pieces of 1 KiB has 10,240;
a file of empty pieces would have millions."""

SLOW_NANOSECONDS: Final = 400_000_000
"""A picture that is estimated to take longer is decoded beside the others, and once only."""

_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
"""Orientations that exchange width and height."""


class InvalidImageError(ValueError):
    """The bytes are no image that can be decoded; the text says why."""


class UnknownFormatError(InvalidImageError):
    """The bytes are none of the formats that are read."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The bytes that a decoder needs, and none beside them: no metadata, nothing that follows.

    prefix and suffix surround the slices, (start, end) in the file.
    """

    slices: tuple[tuple[int, int], ...]
    prefix: bytes = b""
    suffix: bytes = b""

    def of(self, data: bytes) -> bytes:
        """Put the stream of a file together; the file itself where nothing has to change."""
        if not self.prefix and not self.suffix and self.slices == ((0, len(data)),):
            return data
        return b"".join(
            (self.prefix, *(data[start:end] for start, end in self.slices), self.suffix)
        )


def joined(slices: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join slices of a file that touch."""
    result: list[tuple[int, int]] = []
    for start, end in slices:
        if result and result[-1][1] == start:
            result[-1] = (result[-1][0], end)
        else:
            result.append((start, end))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before its pixels are decoded.

    format: by content. stored_width, stored_height: pixels as they are stored. orientation: 1 to 8
    as Exif counts, 1 where no Exif block says otherwise. cost: estimated nanoseconds of decoding,
    on one core. stream: what the decoder is given. is_cut: whether a JPEG lacks its end
    marker; its pixels may be complete all the same.
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
        """Whether a picture is estimated to take so long that others should not wait for it."""
        return self.cost > SLOW_NANOSECONDS

    @property
    def height(self) -> int:
        """Height of the upright image."""
        return self.stored_width if self.orientation in _SIDEWAYS else self.stored_height

"""Read WebP files by their chunks (RFC 9649); of an animation the first picture is kept."""

from collections.abc import Iterator
from typing import Final

from triton_python_backend.formats.exif import first_orientation
from triton_python_backend.formats.header import MAX_PIECES, Header, InvalidImageError, Stream

_FRAME_HEAD: Final = 16
"""Bytes of an animation's frame before its picture: position, size and duration."""
_PICTURES: Final = frozenset({b"VP8 ", b"VP8L"})
_TOO_MANY: Final = f"the WEBP has more than {MAX_PIECES} chunks"
_NANOSECONDS_PER_PIXEL: Final = 12


def is_webp(data: bytes) -> bool:
    """Whether the bytes begin as a WebP does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_webp(data: bytes) -> Header:
    """Read the header of a WebP.

    Of an animation the first picture is taken; it usually fills the canvas.

    Raises:
        InvalidImageError: no picture, or more chunks than are walked.

    """
    picture: tuple[int, int] | None = None
    inner_chunks = 0
    exif: list[bytes] = []
    # the header's total length is not needed, and often wrong in files with added metadata
    for kind, start, end in _chunks(data, 12, len(data)):
        if kind == b"EXIF":
            exif.append(data[start:end])
        elif kind in _PICTURES and picture is None:
            picture = start, end
        elif kind == b"ANMF" and picture is None:
            for inner_kind, inner_start, inner_end in _chunks(data, start + _FRAME_HEAD, end):
                inner_chunks += 1
                if inner_kind in _PICTURES:
                    picture = inner_start, inner_end
                    break
            if inner_chunks > MAX_PIECES:
                raise InvalidImageError(_TOO_MANY)
    if picture is None:
        raise InvalidImageError("the WEBP holds no picture")
    start, end = picture
    width, height = _picture_size(data[start - 8 : start - 4], data[start : min(end, start + 10)])
    whole = data[start - 8 : start - 4] + (end - start).to_bytes(4, "little")
    padding = b"\0" * ((end - start) % 2)
    size = 4 + 8 + (end - start) + len(padding)
    return Header(
        "WEBP",
        width,
        height,
        first_orientation(exif),
        width * height * _NANOSECONDS_PER_PIXEL,
        Stream(
            ((start, end),),
            prefix=b"RIFF" + size.to_bytes(4, "little") + b"WEBP" + whole,
            suffix=padding,
        ),
    )


def _chunks(data: bytes, at: int, limit: int) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over chunks: type, start and end of the data; the last one may be truncated."""
    for _ in range(MAX_PIECES):
        kind = data[at : at + 4]
        if at + 8 > limit:
            return
        start = at + 8
        end = start + int.from_bytes(data[at + 4 : start], "little")
        yield kind, start, min(end, limit)
        at = end + (end - start) % 2
    raise InvalidImageError(_TOO_MANY)


def _picture_size(kind: bytes, head: bytes) -> tuple[int, int]:
    """Read width and height from the first bytes of a lossless or lossy picture."""
    if kind == b"VP8L" and head[:1] == b"\x2f" and len(head) >= 5:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a" and len(head) == 10:
        width = int.from_bytes(head[6:8], "little") & 0x3FFF
        height = int.from_bytes(head[8:10], "little") & 0x3FFF
        if width and height:
            return width, height
    raise InvalidImageError("the header of the WEBP cannot be read")

"""Read PNG files by their chunks (W3C PNG, third edition); keep those that the pixels need."""

import zlib
from collections.abc import Iterator
from typing import Final

from triton_python_backend.formats.exif import first_orientation
from triton_python_backend.formats.header import (
    MAX_PIECES,
    Header,
    InvalidImageError,
    Stream,
    joined,
)

START: Final = b"\x89PNG\r\n\x1a\n"
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_FRAME: Final = 12
"""Bytes of a chunk besides its data: length, type, CRC."""
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_PALETTE: Final = 3
_NEEDED: Final = frozenset({b"IHDR", b"PLTE", b"IDAT"})
_TEXTS: Final = frozenset({b"zTXt", b"tEXt", b"iTXt"})
_RAW_EXIF: Final = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Exif as hexadecimal text: ImageMagick and others wrote it before PNG had a chunk for it."""
_MAX_RAW_EXIF_BYTES: Final = 256 * 1024
_NANOSECONDS_PER_BYTE: Final = 6


def read_png(data: bytes) -> Header:
    """Read the header of a PNG; for an animated one, that of its static image.

    Raises:
        InvalidImageError: no header, no pixels, or more chunks than are walked.

    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or chunks[0][2] - chunks[0][1] != 13:
        raise InvalidImageError("the header of the PNG cannot be read")
    head = data[chunks[0][1] : chunks[0][2]]
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    depth, colours, interlaced = head[8], head[9], head[12]
    if not width or not height:
        raise InvalidImageError("the image has no pixels")
    if colours not in _SAMPLES:
        raise InvalidImageError("the PNG is of a kind that is not decoded")
    if not any(kind == b"IDAT" for kind, _, _ in chunks):
        raise InvalidImageError("the PNG ends before its image does")
    raw_bytes = height * -(-width * depth * _SAMPLES[colours] // 8)
    return Header(
        "PNG",
        width,
        height,
        first_orientation(_exif_blocks(data, chunks)),
        raw_bytes * _NANOSECONDS_PER_BYTE * (2 if interlaced else 1) + width * height * 3,
        Stream(_kept(chunks, with_palette=colours == _PALETTE), prefix=START, suffix=_END),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over complete chunks: type, start and end of the data."""
    at = len(START)
    for _ in range(MAX_PIECES):
        kind = data[at + 4 : at + 8]
        start, end = at + 8, at + 8 + int.from_bytes(data[at : at + 4], "big")
        if len(kind) < 4 or kind == b"IEND" or end > len(data):
            return
        yield kind, start, end
        at = end + 4
    message = f"the PNG has more than {MAX_PIECES} chunks"
    raise InvalidImageError(message)


def _kept(
    chunks: list[tuple[bytes, int, int]], *, with_palette: bool
) -> tuple[tuple[int, int], ...]:
    """Return the slices of the chunks that the decoder needs."""
    needed = _NEEDED if with_palette else _NEEDED - {b"PLTE"}
    return joined([(start - 8, end + 4) for kind, start, end in chunks if kind in needed])


def _exif_blocks(data: bytes, chunks: list[tuple[bytes, int, int]]) -> Iterator[bytes]:
    """Iterate over Exif blocks; a compressed one is inflated when it is reached."""
    for kind, start, end in chunks:
        if kind == b"eXIf":
            yield data[start:end]
    for kind, start, end in chunks:
        if kind in _TEXTS and data[start : start + 32].startswith(_RAW_EXIF):
            yield _raw_profile(kind, data[start : min(end, start + _MAX_RAW_EXIF_BYTES)])


def _raw_profile(kind: bytes, text: bytes) -> bytes:
    """Read a raw profile: name, length and hexadecimal digits, one line each."""
    body = text.partition(b"\0")[2]
    if kind == b"zTXt":
        try:
            body = zlib.decompressobj().decompress(body[1:], _MAX_RAW_EXIF_BYTES)
        except zlib.error:
            return b""
    digits = b"".join(body.split()[2:])
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except ValueError:
        return b""

"""The orientation in an Exif block (TIFF 6.0; Exif 3.0, JEITA CP-3451F)."""

import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final

_HEADER: Final = b"Exif\0"
_HEADER_BYTES: Final = 6
_MAX_HEADERS: Final = 4
_MAX_BLOCKS: Final = 32
"""Largest number of blocks to read: a photo has one or two, and more would cost too much."""
_MAX_ENTRIES: Final = 4096
"""Most entries to read of a block: cameras write some dozens, sorted, the orientation early."""
_ORIENTATION: Final = 0x0112
_ENTRY_BYTES: Final = 12
# type of a TIFF entry -> how its value is read: BYTE, SHORT, LONG; some writers use the wrong one
_NUMBERS: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}


def is_exif(payload: bytes) -> bool:
    """Whether the payload of a JPEG's APP1 segment is an Exif block."""
    return payload[: len(_HEADER)] == _HEADER


def read_orientation(block: bytes) -> int | None:
    r"""Read the orientation, 1 to 8, of an Exif block.

    block: with or without the header `Exif\0\0`, which some writers put there twice.

    Returns:
        None if the block has none, or is damaged before it.

    """
    for _ in range(_MAX_HEADERS):
        if is_exif(block):
            block = block[_HEADER_BYTES:]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return None
    magic, offset = struct.unpack_from(f"{order}HI", block, 2)
    if magic != 42 or offset + 2 > len(block):
        return None
    (count,) = struct.unpack_from(f"{order}H", block, offset)
    count = min(count, _MAX_ENTRIES)
    for at in range(offset + 2, offset + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
        entry = block[at : at + _ENTRY_BYTES]
        if len(entry) < _ENTRY_BYTES:
            return None
        tag, kind, number = struct.unpack_from(f"{order}HHI", entry)
        if tag == _ORIENTATION and kind in _NUMBERS and number:
            (value,) = struct.unpack_from(order + _NUMBERS[kind], entry, 8)
            return value if 1 <= value <= 8 else None
    return None


def first_orientation(blocks: Iterable[bytes]) -> int:
    """Return the first orientation found in up to 32 blocks; 1 if there is none."""
    said = (read_orientation(block) for block in islice(blocks, _MAX_BLOCKS))
    return next((value for value in said if value is not None), 1)

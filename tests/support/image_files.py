"""Encoded images put together by hand: segments, chunks, Exif blocks, progressive scans."""

import struct
import zlib

Entry = tuple[int, int, bytes]
"""A TIFF entry: tag, type, the four bytes of its value."""


def tiff(orientation: int | None, *more: Entry, order: str = "<") -> bytes:
    """Exif without its header; entries sorted by tag."""
    entries = list(more)
    if orientation is not None:
        entries.append((0x0112, 3, struct.pack(f"{order}HH", orientation, 0)))
    body = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1) + value for tag, kind, value in sorted(entries)
    )
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIH", 42, 8, len(entries)) + body + bytes(4)


def exif(orientation: int | None, *more: Entry, order: str = "<") -> bytes:
    """Exif as JPEG carries it."""
    return b"Exif\0\0" + tiff(orientation, *more, order=order)


def segment(marker: int, payload: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """Put segments behind the start of a JPEG."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(kind: bytes, body: bytes, *, check: int | None = None) -> bytes:
    """A chunk of a PNG; `check` for a wrong CRC."""
    crc = zlib.crc32(kind + body) if check is None else check
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Put chunks behind the header of a PNG."""
    return png[:33] + b"".join(chunks) + png[33:]


def many_scans(edge: int, scans: int) -> bytes:
    """A progressive JPEG of three components, black, refined again and again by empty scans."""
    blocks = (-(-edge // 8)) ** 2
    frame = struct.pack(">BHHB", 8, edge, edge, 3)
    frame += b"".join(bytes([component, 0x11, 0]) for component in (1, 2, 3))
    data = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64)) + segment(0xC2, frame)
    data += _table(0, (0, 1)) + _table(1, (0xE0, 0))
    data += _scan((1, 2, 3), 0, 0, 0, 0) + _bits([(0, 1)] * (blocks * 3))
    nothing, number = _bits(_empty_runs(blocks)), 0
    for component in (1, 2, 3):
        for coefficient in range(1, 64):
            for bit in range(13, -1, -1):
                if number < scans:
                    high = 0 if bit == 13 else bit + 1
                    data += _scan((component,), coefficient, coefficient, high, bit) + nothing
                    number += 1
    return data + b"\xff\xd9"


def _empty_runs(blocks: int) -> list[tuple[int, int]]:
    """End-of-band runs over all blocks (T.81, G.1.2.2): codes and their bits."""
    runs = []
    while blocks >= 1 << 14:
        run = min(blocks, 32767)
        runs += [(0, 1), (run - (1 << 14), 14)]
        blocks -= run
    return runs + [(2, 2)] * blocks


def _table(kind: int, symbols: tuple[int, ...]) -> bytes:
    """A Huffman table with a code of one bit and one of two."""
    return segment(0xC4, bytes([kind << 4, 1, 1, *[0] * 14, *symbols]))


def _scan(components: tuple[int, ...], first: int, last: int, high: int, low: int) -> bytes:
    rows = b"".join(bytes([component, 0]) for component in components)
    return segment(0xDA, bytes([len(components)]) + rows + bytes([first, last, high << 4 | low]))


def _bits(pairs: list[tuple[int, int]]) -> bytes:
    """Pack (value, number of bits), filled up with ones, with a zero behind each 0xFF."""
    text = "".join(f"{value:0{width}b}" for value, width in pairs)
    text += "1" * (-len(text) % 8)
    packed = int(text, 2).to_bytes(len(text) // 8, "big")
    return packed.replace(b"\xff", b"\xff\0")

"""Read JPEG files by their markers (ITU-T T.81), segments and scans, without decoding pixels.

Like libjpeg, the reader continues over wrong lengths, bytes between segments and unknown markers.
The picture ends at its end marker, whatever follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from triton_python_backend.formats.exif import first_orientation, is_exif
from triton_python_backend.formats.header import (
    MAX_PIECES,
    Header,
    InvalidImageError,
    Stream,
    joined,
)

START: Final = b"\xff\xd8\xff"
END_MARKER: Final = b"\xff\xd9"

MAX_SCAN_BLOCKS: Final = 24_000_000
"""Largest number of 8 x 8 blocks to decode, summed over all scans. A progressive picture of 40
megapixels, as libjpeg writes it, has 9 million in 10 scans."""

MAX_PASSES: Final = 12
"""For larger pictures: largest number of times that each block may be decoded. Other code limits
the size itself."""

_SOF: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Frames that libjpeg decodes: baseline, extended, progressive; with arithmetic coding."""
_OTHER_SOF: Final = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE: Final = frozenset({0xC2, 0xCA})
_MAX_COMPONENTS: Final = 4
"""In a frame, as no colour space has more, and in a scan (T.81, B.2.3)."""
_SOI, _SOS, _EOI, _APP1 = 0xD8, 0xDA, 0xD9, 0xE1
_METADATA: Final = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""Application segments and comments; JFIF's and Adobe's, with the colour space, are kept."""
_WITHOUT_LENGTH: Final = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
# any number of 0xFF may stand before a marker: the last of them is found
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_NEXT_AFTER_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_ALL_COEFFICIENTS: Final = (1 << 64) - 1
_NANOSECONDS_PER_BLOCK: Final = 150


@dataclass(frozen=True, slots=True)
class _Segment:
    """A marker and its data, as offsets; for a scan with its entropy-coded data."""

    marker: int
    start: int
    payload: int
    after: int
    end: int


@dataclass(frozen=True, slots=True)
class _Component:
    blocks: int
    """Number of blocks in a scan of this component alone."""
    blocks_in_mcu: int


@dataclass(slots=True)
class _Frame:
    """The frame header, and which coefficients the scans so far contain."""

    progressive: bool
    width: int
    height: int
    components: dict[int, _Component]
    mcus: int
    scan_blocks: int = 0
    missing: dict[int, int] = field(default_factory=dict)
    """By component: a bit for each coefficient that has not arrived in full precision."""

    @property
    def is_covered(self) -> bool:
        """Whether every coefficient of every component has arrived in full precision."""
        return not any(self.missing.values())


def read_jpeg(data: bytes) -> Header:
    """Read the header of a JPEG.

    Raises:
        InvalidImageError: no picture, a kind that libjpeg does not decode, or more scans than its
            size allows.

    """
    frame: _Frame | None = None
    exif: list[bytes] = []
    kept, kept_heads, ended = [(0, 2)], 2, False
    for part in _segments(data):
        payload = data[part.payload : part.after]
        if part.marker in _OTHER_SOF or (part.marker in _SOF and frame is not None):
            raise InvalidImageError("the JPEG has a frame of a kind that is not decoded")
        if part.marker in _SOF:
            frame = _read_frame(payload, progressive=part.marker in _PROGRESSIVE)
        elif part.marker == _APP1 and is_exif(payload):
            exif.append(payload)
        elif part.marker == _SOS:
            if frame is None:
                raise InvalidImageError("the JPEG has no frame before its first scan")
            _count_scan(frame, payload)
        ended = part.marker == _EOI
        if part.marker not in _METADATA:
            kept.append((part.start, part.end))
            kept_heads = part.after
    if frame is None or frame.scan_blocks == 0 or not (ended or frame.is_covered):
        raise InvalidImageError("the JPEG ends before its image does")
    if not ended:
        start, end = kept[-1]
        # zeros and 0xFF that belong to a segment are not the rest of a copy
        kept[-1] = start, max(_end_of_pixels(data, end), kept_heads)
    cost = frame.scan_blocks * _NANOSECONDS_PER_BLOCK + frame.width * frame.height * 3
    return Header(
        "JPEG",
        frame.width,
        frame.height,
        first_orientation(exif),
        # to find out whether a file without an end marker is complete triples the cost
        cost if ended else 3 * cost,
        Stream(joined(kept), suffix=b"" if ended else END_MARKER),
        is_cut=not ended,
    )


def _end_of_pixels(data: bytes, end: int) -> int:
    """Find where the stream of a file without an end marker ends."""
    # trailing zeros, as left by copies, and half a marker, which would join the end marker
    without_zeros = len(data[:end].rstrip(b"\0"))
    if without_zeros < end and data[without_zeros - 1] == 0xFF:
        return without_zeros + 1
    return len(data[:without_zeros].rstrip(b"\xff"))


def _segments(data: bytes) -> Iterator[_Segment]:
    """Iterate over the markers up to the picture's end, or the start of another picture."""
    at, has_scan = 2, False
    for _ in range(MAX_PIECES):
        found = _NEXT_MARKER.search(data, at)
        if found is None:
            return
        marker, start, at = data[found.end() - 1], found.start(), found.end()
        if marker == _EOI:
            yield _Segment(marker, start, at, at, at)
            return
        if marker == _SOI and has_scan:
            return
        if marker in _WITHOUT_LENGTH:
            continue
        # libjpeg treats a length below 2 as an empty segment
        after = at + max(int.from_bytes(data[at : at + 2], "big"), 2)
        if after > len(data):
            return
        end = after
        if marker == _SOS:
            has_scan = True
            following = _NEXT_AFTER_SCAN.search(data, after)
            end = len(data) if following is None else following.start()
        yield _Segment(marker, start, at + 2, after, end)
        at = end
    message = f"the JPEG has more than {MAX_PIECES} segments"
    raise InvalidImageError(message)


def _read_frame(payload: bytes, *, progressive: bool) -> _Frame:
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise InvalidImageError("the frame header of the JPEG cannot be read")
    height, width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
    if not width or not height:
        raise InvalidImageError("the image has no pixels")
    if payload[5] > _MAX_COMPONENTS:
        raise InvalidImageError("the JPEG has more components than are decoded")
    rows = [payload[6 + 3 * k : 9 + 3 * k] for k in range(payload[5])]
    factors = {row[0]: (row[1] >> 4, row[1] & 15) for row in rows}
    if not factors or not all(0 < h <= 4 and 0 < v <= 4 for h, v in factors.values()):
        raise InvalidImageError("the JPEG has no components, or a sampling that does not exist")
    widest = max(h for h, _ in factors.values())
    highest = max(v for _, v in factors.values())
    components = {
        name: _Component(
            _blocks(-(-width * h // widest)) * _blocks(-(-height * v // highest)), h * v
        )
        for name, (h, v) in factors.items()
    }
    return _Frame(
        progressive,
        width,
        height,
        components,
        -(-width // (8 * widest)) * -(-height // (8 * highest)),
        missing=dict.fromkeys(components, _ALL_COEFFICIENTS),
    )


def _count_scan(frame: _Frame, payload: bytes) -> None:
    number = payload[0] if payload else 0
    if len(payload) < 4 + 2 * number:
        raise InvalidImageError("a scan header of the JPEG cannot be read")
    names = [payload[1 + 2 * k] for k in range(number)]
    if number > _MAX_COMPONENTS:
        raise InvalidImageError("a scan of the JPEG has more components than there may be")
    if not names or any(name not in frame.components for name in names):
        raise InvalidImageError("a scan of the JPEG names a component that the frame has not")
    if number == 1:
        frame.scan_blocks += frame.components[names[0]].blocks
    else:
        in_mcu = sum(frame.components[name].blocks_in_mcu for name in names)
        frame.scan_blocks += frame.mcus * in_mcu
    blocks = frame.mcus * sum(each.blocks_in_mcu for each in frame.components.values())
    if frame.scan_blocks > max(MAX_SCAN_BLOCKS, MAX_PASSES * blocks):
        raise InvalidImageError("the JPEG has more scans than its size allows")
    first, last, precision = payload[-3], payload[-2], payload[-1] & 15
    for name in names:
        if not frame.progressive:
            frame.missing[name] = 0
        elif precision == 0:
            frame.missing[name] &= ~((2 << last) - (1 << first))


def _blocks(samples: int) -> int:
    return -(-samples // 8)

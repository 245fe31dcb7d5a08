"""Headers of images: sniffing, the walk through segments and chunks, orientation, decoding."""

from triton_python_backend import decoding
from triton_python_backend.formats.exif import read_orientation
from triton_python_backend.formats.header import (
    Header,
    InvalidImageError,
    UnknownFormatError,
)
from triton_python_backend.formats.reader import read_header, sniff

_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"RIFF\0\0\0\0WEBP",
    b"BM\0\0\0\0\0\0\0\0",
)
_MOST_PIXELS = 1 << 20


def sniff_and_read(data: bytes) -> None:
    """Bytes of no known format are refused as such, and nothing else is raised."""
    kind = sniff(data)
    header = _read(data)
    if header is not None:
        assert header.format == kind


def walk(data: bytes) -> None:
    """Like `sniff`, but each input begins as a file of the format that its first byte names."""
    if data:
        _read(_STARTS[data[0] % len(_STARTS)] + data[1:])


def orientation(data: bytes) -> None:
    """An orientation is 1 to 8, or there is none."""
    assert read_orientation(data) in (None, *range(1, 9))


def decode_what_the_header_says(data: bytes) -> None:
    """A decoded image has the size that its header said; anything else is refused."""
    header = _read(data)
    if header is None or header.width * header.height > _MOST_PIXELS or header.is_slow:
        return
    try:
        picture = decoding.decode_with(header, data)
    except InvalidImageError:
        return
    height, width, channels = picture.pixels.shape
    assert channels == 3
    assert width == -(-header.width // picture.reduction)
    assert height == -(-header.height // picture.reduction)


def _read(data: bytes) -> Header | None:
    try:
        header = read_header(data)
    except UnknownFormatError:
        assert sniff(data) is None
        return None
    except InvalidImageError:
        return None
    assert header.width > 0
    assert header.height > 0
    assert header.cost > 0
    assert header.orientation in range(1, 9)
    # the decoder's bytes are of the same format and size, without the orientation
    stream = header.stream.of(data)
    again = read_header(stream)
    assert again.format == header.format
    assert (again.stored_width, again.stored_height) == (header.stored_width, header.stored_height)
    return header

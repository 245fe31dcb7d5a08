"""Rank 2: bytes to a checked image: format by content, size from the header, nothing decoded.

Pixels are decoded once, in `face_preprocess`. What is checked here costs microseconds and
protects everything behind it.
"""

import hashlib
import io
import struct
from dataclasses import dataclass
from typing import Final

from PIL import ExifTags, Image, UnidentifiedImageError

from gateway.errors import ImageTooLargeError, InvalidImageError, UnsupportedMediaTypeError
from gateway.models import CheckedImage

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
"""What `face_preprocess` decodes, as Pillow names it."""

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How large an image may be."""

    max_bytes: int
    max_megapixels: float


def sniff(data: bytes) -> str | None:
    """Name the format by the first bytes, or None for anything but `FORMATS`."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(_PNG_START):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    # the zero bytes are BMP's reserved fields: two letters alone would claim many a text
    if data.startswith(b"BM") and data[6:10] == bytes(4):
        return "BMP"
    return None


def check_image(data: bytes, limits: ImageLimits) -> CheckedImage:
    """Check an encoded image by its header.

    Raises:
        InvalidImageError: no bytes, or a header that does not hold together.
        UnsupportedMediaTypeError: none of `FORMATS`.
        ImageTooLargeError: too many bytes or pixels.

    """
    if not data:
        raise InvalidImageError("the image has no bytes")
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(too_many_bytes(limits.max_bytes))
    kind = sniff(data)
    if kind is None:
        message = f"the bytes are none of {', '.join(FORMATS)}"
        raise UnsupportedMediaTypeError(message)
    width, height = _upright_size(data, kind=kind, limits=limits)
    return CheckedImage(data, kind, width, height, hashlib.sha256(data).hexdigest())


def too_many_bytes(limit: int) -> str:
    """Say that an image is larger than `limit` bytes."""
    return f"an image may have {limit} bytes at most"


def _upright_size(data: bytes, *, kind: str, limits: ImageLimits) -> tuple[int, int]:
    if kind == "WEBP":
        # Pillow's WebP reader reserves the whole canvas on opening: look before that
        _refuse_many_pixels(*_webp_size(data), limits)
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            width, height = image.size
            exif = image.info.get("exif")
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(_too_many_pixels(limits)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as error:
        message = f"the header of the {kind} cannot be read"
        raise InvalidImageError(message) from error
    if width < 1 or height < 1:
        raise InvalidImageError("the image has no pixels")
    _refuse_many_pixels(width, height, limits)
    return (height, width) if _orientation(exif) in _SIDEWAYS else (width, height)


def _refuse_many_pixels(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_megapixels * 1e6:
        message = f"{_too_many_pixels(limits)}; this one has {width} x {height}"
        raise ImageTooLargeError(message)


def _too_many_pixels(limits: ImageLimits) -> str:
    return f"an image may have {limits.max_megapixels:g} megapixels at most"


def _orientation(exif: object) -> int:
    """Read the orientation 1-8 of an EXIF block; 1 if there is none or it is broken."""
    if not isinstance(exif, bytes):
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1
    return value if isinstance(value, int) else 1


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read width and height from the first chunk (WebP container specification; RFC 9649)."""
    chunk, head = data[12:16], data[20:30]
    if len(head) == 10:
        if chunk == b"VP8X":
            extent = int.from_bytes(head[4:7], "little"), int.from_bytes(head[7:10], "little")
            return extent[0] + 1, extent[1] + 1
        if chunk == b"VP8L" and head[0] == 0x2F:
            bits = int.from_bytes(head[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if chunk == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
            width, height = struct.unpack("<HH", head[6:10])
            return width & 0x3FFF, height & 0x3FFF
    raise InvalidImageError("the header of the WEBP cannot be read")

"""Checks encoded images by their headers: format and size, without decoding.

Pixels are decoded once, in `face_preprocess`, which reads headers with the same code. The check
takes microseconds and protects everything behind it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.errors import ImageTooLargeError, InvalidImageError, UnsupportedMediaTypeError
from gateway.types import CheckedImage
from triton_python_backend.formats import header as headers
from triton_python_backend.formats.reader import read_header


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Largest size of an image."""

    max_bytes: int
    max_megapixels: float


def check_image(data: bytes, limits: ImageLimits) -> CheckedImage:
    """Check an encoded image by its header.

    Raises:
        InvalidImageError: no bytes, an inconsistent header, or an image that costs more to decode
            than its size justifies.
        UnsupportedMediaTypeError: not JPEG, PNG, WebP or BMP.
        ImageTooLargeError: too many bytes or pixels.

    """
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(too_many_bytes(limits.max_bytes))
    try:
        header = read_header(data)
    except headers.UnknownFormatError as error:
        raise UnsupportedMediaTypeError(str(error)) from error
    except headers.InvalidImageError as error:
        raise InvalidImageError(str(error)) from error
    if header.width * header.height > limits.max_megapixels * 1e6:
        message = (
            f"an image may have {limits.max_megapixels:g} megapixels at most; "
            f"this one has {header.width} x {header.height}"
        )
        raise ImageTooLargeError(message)
    digest = hashlib.sha256(data).hexdigest()
    return CheckedImage(
        data, header.format, header.width, header.height, digest, is_slow=header.is_slow
    )


def pixels_of(images: Iterable[bytes], *, most_megapixels: float) -> int:
    """Add up the pixels of images by their headers; those that will be refused count nothing."""
    pixels = 0
    for data in images:
        try:
            header = read_header(data)
        except (headers.UnknownFormatError, headers.InvalidImageError):
            continue
        size = header.width * header.height
        if size <= most_megapixels * 1e6:
            pixels += size
    return pixels


def too_many_bytes(limit: int) -> str:
    """Describe an image of more than `limit` bytes."""
    return f"an image may have {limit} bytes at most"

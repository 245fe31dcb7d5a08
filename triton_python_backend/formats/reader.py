"""The one function that determines format, size and orientation of an encoded image.

The gateway's check and the decoder of `face_preprocess` both call it, so they cannot disagree.
Metadata is read for the orientation only; damaged metadata never rejects a picture.
"""

from triton_python_backend.formats import bmp, jpeg, png, webp
from triton_python_backend.formats.header import (
    Format,
    Header,
    InvalidImageError,
    UnknownFormatError,
)

FORMATS: tuple[Format, ...] = ("JPEG", "PNG", "WEBP", "BMP")
"""Supported formats, by Pillow's names."""

_READERS = {
    "JPEG": jpeg.read_jpeg,
    "PNG": png.read_png,
    "WEBP": webp.read_webp,
    "BMP": bmp.read_bmp,
}


def sniff(data: bytes) -> Format | None:
    """Name the format by the first bytes, or None for anything but `FORMATS`."""
    if data.startswith(jpeg.START):
        return "JPEG"
    if data.startswith(png.START):
        return "PNG"
    if webp.is_webp(data):
        return "WEBP"
    return "BMP" if bmp.is_bmp(data) else None


def read_header(data: bytes) -> Header:
    """Read the header of an encoded image; no pixel is decoded.

    Raises:
        UnknownFormatError: none of `FORMATS`.
        InvalidImageError: an inconsistent header, a truncated file, or one that costs more to
            decode than its size allows.

    """
    if not data:
        raise InvalidImageError("the image has no bytes")
    kind = sniff(data)
    if kind is None:
        message = f"the bytes are none of {', '.join(FORMATS)}"
        raise UnknownFormatError(message)
    return _READERS[kind](data)

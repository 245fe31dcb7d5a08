"""BMP: the headers of Windows and OS/2, and the channel masks of 16 and 32 bits."""

import struct
from dataclasses import dataclass
from typing import Final

from triton_python_backend.formats.header import Header, InvalidImageError, Stream

_FILE_HEAD: Final = 14
_CORE: Final = 12
_INFO: Final = 40
_WITH_MASKS: Final = 52
_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHABITFIELDS = 0, 1, 2, 3, 6
_DEPTHS: Final = {
    _RGB: (1, 4, 8, 16, 24, 32),
    _RLE8: (8,),
    _RLE4: (4,),
    _BITFIELDS: (16, 32),
    _ALPHABITFIELDS: (16, 32),
}
_USUAL_MASKS: Final = {16: (0x7C00, 0x03E0, 0x001F), 32: (0xFF0000, 0x00FF00, 0x0000FF)}
_NANOSECONDS_PER_PIXEL: Final = 10
Masks = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class BitmapLayout:
    """Layout of the pixels in a BMP file.

    width, height: pixels. bottom_up: whether the last row comes first. depth: bits of a pixel.
    offset: of the first row, bytes. masks: red, green and blue in a pixel of 16 or 32 bits.
    """

    width: int
    height: int
    bottom_up: bool
    depth: int
    compression: int
    offset: int
    masks: Masks

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, which ends at a multiple of four."""
        return (self.width * self.depth + 31) // 32 * 4


def is_bmp(data: bytes) -> bool:
    """Whether the bytes begin as a BMP does.

    The reserved fields must be zero, as some texts begin with the same two letters.
    """
    return data[:2] == b"BM" and data[6:10] == bytes(4)


def read_bmp(data: bytes) -> Header:
    """Read the header of a BMP.

    Raises:
        InvalidImageError: as `read_layout`.

    """
    layout = read_layout(data)
    return Header(
        "BMP",
        layout.width,
        layout.height,
        1,
        layout.width * layout.height * _NANOSECONDS_PER_PIXEL,
        Stream(((0, len(data)),)),
    )


def read_layout(data: bytes) -> BitmapLayout:
    """Read the layout of the pixels in a BMP file.

    Raises:
        InvalidImageError: an inconsistent header, truncated pixels, or masks that are not
            contiguous bits.

    """
    if len(data) < _FILE_HEAD + _CORE:
        raise InvalidImageError("the header of the BMP cannot be read")
    offset, size = struct.unpack_from("<II", data, 10)
    if size < _CORE or len(data) < _FILE_HEAD + size:
        raise InvalidImageError("the header of the BMP cannot be read")
    if size < _INFO:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        compression = _RGB
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    if width <= 0 or height == 0:
        raise InvalidImageError("the image has no pixels")
    if depth not in _DEPTHS.get(compression, ()):
        raise InvalidImageError("the BMP is of a kind that is not decoded")
    masks = _read_masks(data, size, depth) if compression in (3, 6) else None
    layout = BitmapLayout(
        width,
        abs(height),
        height > 0,
        depth,
        compression,
        offset,
        masks or _USUAL_MASKS.get(depth, (0, 0, 0)),
    )
    # some writers leave a 0 there; then the headers would be read as pixels
    if offset < _FILE_HEAD + max(size, _WITH_MASKS if masks else 0):
        raise InvalidImageError("the BMP does not say where its pixels begin")
    is_packed = compression in (_RLE8, _RLE4)
    if not is_packed and offset + layout.row_bytes * layout.height > len(data):
        raise InvalidImageError("the BMP ends before its image does")
    return layout


def _read_masks(data: bytes, size: int, depth: int) -> Masks:
    """Read the masks; in every header they follow its first 40 bytes."""
    at = _FILE_HEAD + _INFO
    if len(data) < at + 12:
        raise InvalidImageError("the header of the BMP cannot be read")
    red, green, blue = struct.unpack_from("<III", data, at)
    masks = red, green, blue
    overlap = red & green | red & blue | green & blue
    if overlap or not all(_is_run(mask) and mask < 1 << depth for mask in masks):
        raise InvalidImageError("the channel masks of the BMP make no sense")
    return masks


def _is_run(mask: int) -> bool:
    """Whether the bits of a mask are contiguous."""
    lowest = mask & -mask
    return mask > 0 and (mask // lowest + 1) & (mask // lowest) == 0

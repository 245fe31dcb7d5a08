"""Part of stages 1 and 3 of 6: decode bytes to upright RGB pixels, at full or reduced scale.

Format, size and orientation come from `formats/`. The decoder receives only the bytes of the pixels
and applies no orientation itself.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from triton_python_backend.formats import jpeg
from triton_python_backend.formats.bmp import read_layout
from triton_python_backend.formats.header import Header, InvalidImageError
from triton_python_backend.formats.reader import read_header, sniff
from triton_python_backend.geometry import Letterbox

Pixels = npt.NDArray[np.uint8]

SMALLEST_LONGER_EDGE: Final = 1280
"""The smallest longer edge of a reduced picture: twice the detector's canvas.

With less, large group photos had to be decoded twice, as their faces were smaller than crops.
"""

MAX_PIXELS_VARIABLE: Final = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""OpenCV's own limit of pixels; OpenCV reads this variable."""
_FLAGS: Final = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED: Final = {1: 0, 2: 16, 4: 32, 8: 64}
"""OpenCV's flags. libjpeg then computes fewer samples of each block, which is faster."""
_PROBE: Final = np.random.default_rng(7).integers(128, 255, 512, dtype=np.uint8).tobytes()
"""Padding in entropy-coded data; none of its bytes begins a marker."""
_TURNS: Final[dict[int, Callable[[Any], Any]]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""Operation from stored to upright pixels, by Exif orientation."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    pixels: [h,w,3] uint8 RGB, upright. width, height: of the image at full scale. reduction: 1,
    2, 4 or 8, the number of image pixels per pixel, each way.
    """

    pixels: Pixels
    width: int
    height: int
    reduction: int

    @classmethod
    def whole(cls, pixels: Pixels) -> "Picture":
        """Make a picture of pixels at full scale."""
        return cls(pixels, pixels.shape[1], pixels.shape[0], 1)

    @property
    def letterbox(self) -> Letterbox:
        """Map between image pixels and these pixels; pixel centres map to pixel centres."""
        shift = 0.5 / self.reduction - 0.5
        return Letterbox(1 / self.reduction, shift, shift)


class Decode(Protocol):
    """Decodes an image whose header was read before, here or in another process."""

    def __call__(self, header: Header, data: bytes, *, reduction: int | None = None) -> Picture:
        """See `decode_with`."""


def decode(data: bytes) -> Pixels:
    """Decode one JPEG, PNG, WebP or BMP to upright pixels.

    EXIF orientation is applied, grey becomes three equal channels, alpha is dropped, 16 bits
    become 8, and of several pages or frames the first is taken.

    Returns:
        [H,W,3] uint8 RGB.

    Raises:
        InvalidImageError: for anything else, also for a file that ends before its image does.

    """
    return decode_reduced(data, reduction=1).pixels


def decode_reduced(data: bytes, *, reduction: int | None = None) -> Picture:
    """Decode a large JPEG at a half, quarter or eighth of its size, other images at full size.

    Args:
        data: as `decode`.
        reduction: 1, 2, 4 or 8; None for the largest that keeps the longer edge above
            `SMALLEST_LONGER_EDGE`. Images that are not JPEG are never reduced, nor images that are
            slow to decode, as reduced ones may have to be decoded a second time.

    Raises:
        InvalidImageError: as `decode`.

    """
    return decode_with(read_header(data), data, reduction=reduction)


def decode_with(header: Header, data: bytes, *, reduction: int | None = None) -> Picture:
    """Decode as `decode_reduced` does, with a header that was read before."""
    check_pixels(header)
    stream = header.stream.of(data)
    if sniff(stream) != header.format:
        # OpenCV chooses its decoder by the first bytes, and knows more formats than these
        raise InvalidImageError("the header and the pixels are of different formats")
    if header.format == "BMP":
        return Picture.whole(_decode_bitmap(stream))
    if header.is_cut and _lacks_pixels(stream):
        raise InvalidImageError("the JPEG ends before its image does")
    if header.format != "JPEG":
        reduction = 1
    elif reduction is None:
        reduction = _reduction(header)
    stored = _decode_stream(stream, reduction)
    shares = (-(-header.stored_height // reduction), -(-header.stored_width // reduction))
    if stored.shape[:2] != shares:
        raise InvalidImageError("the header and the pixels are of different sizes")
    turn = _TURNS.get(header.orientation)
    upright = stored if turn is None else turn(stored)
    return Picture(np.asarray(upright, dtype=np.uint8), header.width, header.height, reduction)


def check_pixels(header: Header) -> None:
    """Raise InvalidImageError for an image of more pixels than OpenCV decodes."""
    most = most_pixels()
    if header.width * header.height > most:
        message = f"{header.width} x {header.height} pixels, {most} may be"
        raise InvalidImageError(message)


def most_pixels() -> int:
    """Return the largest number of pixels that OpenCV decodes."""
    return int(os.environ.get(MAX_PIXELS_VARIABLE, 1 << 30))


def _reduction(header: Header) -> int:
    if header.is_slow:
        return 1
    longer = max(header.width, header.height)
    return next((step for step in (8, 4, 2) if longer >= step * SMALLEST_LONGER_EDGE), 1)


def _decode_stream(stream: bytes, reduction: int) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(stream, np.uint8), _FLAGS | _REDUCED[reduction])
    except cv2.error as error:
        raise InvalidImageError(error.err or "not decodable") from error
    if pixels is None:
        raise InvalidImageError("not decodable as JPEG, PNG, WebP or BMP")
    return np.asarray(pixels, dtype=np.uint8)


def _lacks_pixels(stream: bytes) -> bool:
    """Whether a JPEG without an end marker of its own ends before its last block.

    libjpeg fills missing data with zeros and does not report it. A complete image decodes to the
    same pixels whatever follows it.
    """
    body = stream.removesuffix(jpeg.END_MARKER)
    followed = body + _PROBE + jpeg.END_MARKER
    return not np.array_equal(_decode_stream(stream, 1), _decode_stream(followed, 1))


def _decode_bitmap(data: bytes) -> Pixels:
    """Decode a BMP; 16 and 32 bits by their masks, which OpenCV misreads."""
    layout = read_layout(data)
    if layout.depth not in (16, 32):
        return _decode_stream(data, 1)
    kind = np.dtype(f"<u{layout.depth // 8}")
    rows = np.frombuffer(data, np.uint8, layout.row_bytes * layout.height, layout.offset)
    rows = rows.reshape(layout.height, layout.row_bytes)[:, : layout.width * kind.itemsize]
    packed = np.ascontiguousarray(rows).view(kind)
    pixels = np.stack([_channel(packed, mask) for mask in layout.masks], axis=2)
    return np.ascontiguousarray(pixels[::-1] if layout.bottom_up else pixels)


def _channel(packed: npt.NDArray[Any], mask: int) -> Pixels:
    """Extract one channel, scaled to 0-255."""
    lowest = mask & -mask
    most = mask // lowest
    values = (packed & packed.dtype.type(mask)) // packed.dtype.type(lowest)
    if most == 255:
        return np.asarray(values, dtype=np.uint8)
    return np.asarray((values.astype(np.uint64) * 255 + most // 2) // most, dtype=np.uint8)

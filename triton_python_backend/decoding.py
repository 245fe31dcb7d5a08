"""Part of stages 1 and 3 of 7: encoded bytes to upright RGB pixels, at full or reduced scale."""

import io
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from triton_python_backend.geometry import Letterbox

Pixels = npt.NDArray[np.uint8]

SMALLEST_LONGER_EDGE: Final = 1280
"""A picture is not reduced below this: twice the detector's canvas.

With less, large group photos had to be decoded twice, as their faces became smaller than crops.
"""

_JPEG_START: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
_JPEG_SCAN: Final = b"\xff\xda"
_REDUCED: Final = {2: 16, 4: 32, 8: 64}
"""OpenCV's flags; libjpeg then computes fewer samples of each block, it does not shrink pixels."""


class InvalidImageError(ValueError):
    """The bytes are no image that can be decoded; the text says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    pixels: [h,w,3] uint8 RGB, upright. width, height: of the image at full scale. reduction: 1,
    2, 4 or 8; each pixel stands for that many of the image, each way.
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
        """How the image lies in the pixels: centres of pixels on centres."""
        shift = 0.5 / self.reduction - 0.5
        return Letterbox(1 / self.reduction, shift, shift)


def decode(data: bytes) -> Pixels:
    """Decode one JPEG, PNG, WebP or BMP to upright pixels.

    EXIF orientation is applied, grey becomes three equal channels, alpha is dropped, 16 bits
    become 8, and of several pages or frames the first is taken.

    Returns:
        [H,W,3] uint8 RGB.

    Raises:
        InvalidImageError: for anything else, also for a JPEG that ends before its image does.

    """
    return _decode(data, 1)


def decode_reduced(data: bytes, *, reduction: int | None = None) -> Picture:
    """Decode a large JPEG at a half, quarter or eighth of its size, everything else in full.

    Args:
        data: as `decode`.
        reduction: 1, 2, 4 or 8; None for the largest that keeps the longer edge above
            `SMALLEST_LONGER_EDGE`. Images that are no JPEG are not reduced.

    Raises:
        InvalidImageError: as `decode`.

    """
    size = _jpeg_size(data)
    if size is None:
        return Picture.whole(decode(data))
    if reduction is None:
        fits = (step for step in (8, 4, 2) if max(size) >= step * SMALLEST_LONGER_EDGE)
        reduction = next(fits, 1)
    pixels = _decode(data, reduction)
    width, height = size
    # the size in the header is that of the stored picture, which EXIF may turn on its side
    if (width > height) != (pixels.shape[1] > pixels.shape[0]):
        width, height = height, width
    return Picture(pixels, width, height, reduction)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(_JPEG_START):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return image.size
    except (OSError, ValueError, SyntaxError):
        return None


def _decode(data: bytes, reduction: int) -> Pixels:
    if not data:
        raise InvalidImageError("no bytes")
    if data.startswith(_JPEG_START) and _is_cut_off(data):
        raise InvalidImageError("the JPEG ends before its image does")
    if data[8:12] == b"WEBP" and b"EXIF" in data:
        return _decode_webp_with_exif(data)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_COLOR | _REDUCED.get(reduction, 0)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        # OpenCV refuses e.g. more pixels than OPENCV_IO_MAX_IMAGE_PIXELS
        raise InvalidImageError(error.err or "not decodable") from error
    if pixels is None:
        raise InvalidImageError("not decodable as JPEG, PNG, WebP or BMP")
    return np.asarray(pixels, dtype=np.uint8)


def _decode_webp_with_exif(data: bytes) -> Pixels:
    # OpenCV 4.11 applies the orientation of JPEG and PNG, but not of WebP
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidImageError(str(error)) from error
    return np.asarray(upright, dtype=np.uint8)


def _is_cut_off(data: bytes) -> bool:
    end = data.rfind(_JPEG_END)
    # an embedded thumbnail has an end, too, but the image's scan comes after it
    return end < 0 or data.find(_JPEG_SCAN, end) >= 0

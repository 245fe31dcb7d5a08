"""Stage 1 of 7: encoded bytes to upright RGB pixels and the two canvases of the detector."""

import io
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from triton_python_backend.contract import CLOSEUP_SIZE, FRAME_SIZE
from triton_python_backend.geometry import Letterbox

Pixels = npt.NDArray[np.uint8]

_JPEG_START: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
_JPEG_SCAN: Final = b"\xff\xda"


class InvalidImageError(ValueError):
    """The bytes are no image that can be decoded; the text says why."""


@dataclass(frozen=True, slots=True)
class Canvases:
    """The two detector inputs of an image.

    frame: [640,640,3] uint8 RGB, the image fitted to the top left, black beyond it.
    closeup: [320,320,3] uint8 RGB, the image padded by half its size on each side, so that a
        face that fills the photo has the surroundings that the detector was trained with.
    """

    frame: Pixels
    frame_letterbox: Letterbox
    closeup: Pixels
    closeup_letterbox: Letterbox


def decode(data: bytes) -> Pixels:
    """Decode one JPEG, PNG, WebP or BMP to upright pixels.

    EXIF orientation is applied, grey becomes three equal channels, alpha is dropped, 16 bits
    become 8, and of several pages or frames the first is taken.

    Returns:
        [H,W,3] uint8 RGB.

    Raises:
        InvalidImageError: for anything else, also for a JPEG that ends before its image does,
            which OpenCV would fill up with grey.

    """
    if not data:
        raise InvalidImageError("no bytes")
    if data.startswith(_JPEG_START) and _is_cut_off(data):
        raise InvalidImageError("the JPEG ends before its image does")
    if data[8:12] == b"WEBP" and b"EXIF" in data:
        return _decode_webp_with_exif(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
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
    # the end marker of an embedded thumbnail lies before the scan and does not count
    scan = data.rfind(_JPEG_SCAN)
    return scan < 0 or data.find(_JPEG_END, scan) < 0


def make_canvases(pixels: Pixels) -> Canvases:
    """Fit an image [H,W,3] uint8 RGB into the two detector inputs."""
    height, width = pixels.shape[:2]
    # the rounding of insightface's SCRFD.detect, so that both see the same canvas
    if height > width:
        fit_height, fit_width = FRAME_SIZE, max(int(FRAME_SIZE * width / height), 1)
    else:
        fit_height, fit_width = max(int(FRAME_SIZE * height / width), 1), FRAME_SIZE
    fitted = cv2.resize(pixels, (fit_width, fit_height), interpolation=cv2.INTER_LINEAR)
    frame = np.zeros((FRAME_SIZE, FRAME_SIZE, 3), dtype=np.uint8)
    frame[:fit_height, :fit_width] = fitted

    ratio = CLOSEUP_SIZE / 2 / FRAME_SIZE
    inner_width, inner_height = max(round(fit_width * ratio), 1), max(round(fit_height * ratio), 1)
    inner = cv2.resize(fitted, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    left, top = inner_width // 2, inner_height // 2
    closeup = np.zeros((CLOSEUP_SIZE, CLOSEUP_SIZE, 3), dtype=np.uint8)
    closeup[top : top + inner_height, left : left + inner_width] = inner
    longer = max(height, width)
    return Canvases(
        frame=frame,
        frame_letterbox=Letterbox(FRAME_SIZE / longer, 0, 0),
        closeup=closeup,
        closeup_letterbox=Letterbox(CLOSEUP_SIZE / 2 / longer, left, top),
    )

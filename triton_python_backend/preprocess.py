"""Stage 1 of 7: pixels to the detector's canvases."""

from typing import Final

import cv2
import numpy as np

from triton_python_backend.contract import CLOSEUP_SIZE, FRAME_SIZE
from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.geometry import Letterbox

CANVAS_STEP: Final = 32
"""Edges of a canvas are multiples of this, the coarsest stride of SCRFD."""


def make_frame(picture: Picture) -> tuple[Pixels, Letterbox]:
    """Fit a picture to the top left of the detector's canvas.

    The canvas ends with the row and column of blocks in which the picture ends: SCRFD answers the
    same as on 640 x 640, where the rest is black, and computes up to two fifths less.

    Returns:
        [h,w,3] uint8 RGB, h and w multiples of 32 up to 640, black beyond the picture; how the
        image (at full scale) lies in it.

    """
    width, height = _fitted_size(picture)
    frame = np.zeros((_blocks(height), _blocks(width), 3), dtype=np.uint8)
    # resized in place: the right and lower edge stay black
    cv2.resize(
        picture.pixels, (width, height), frame[:height, :width], interpolation=cv2.INTER_LINEAR
    )
    return frame, Letterbox(FRAME_SIZE / max(picture.width, picture.height), 0, 0)


def make_closeup(picture: Picture) -> tuple[Pixels, Letterbox]:
    """Fit a picture, padded by half its size on each side, to the close-up canvas.

    A face that fills the photo has the surroundings there that the detector was trained with.

    Returns:
        [h,w,3] uint8 RGB, h and w multiples of 32 up to 320; how the image lies in it.

    """
    width, height = _fitted_size(picture)
    fitted = cv2.resize(picture.pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    ratio = CLOSEUP_SIZE / 2 / FRAME_SIZE
    inner_width, inner_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    left, top = inner_width // 2, inner_height // 2
    closeup = np.zeros((_blocks(2 * inner_height), _blocks(2 * inner_width), 3), dtype=np.uint8)
    closeup[top : top + inner_height, left : left + inner_width] = cv2.resize(
        fitted, (inner_width, inner_height), interpolation=cv2.INTER_AREA
    )
    scale = CLOSEUP_SIZE / 2 / max(picture.width, picture.height)
    return closeup, Letterbox(scale, left, top)


def _fitted_size(picture: Picture) -> tuple[int, int]:
    # the rounding of insightface's SCRFD.detect, so that both see the same canvas
    width, height = picture.width, picture.height
    if height > width:
        return max(int(FRAME_SIZE * width / height), 1), FRAME_SIZE
    return FRAME_SIZE, max(int(FRAME_SIZE * height / width), 1)


def _blocks(size: int) -> int:
    return -(-size // CANVAS_STEP) * CANVAS_STEP

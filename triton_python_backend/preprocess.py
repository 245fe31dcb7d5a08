"""Stage 1 of 7: pixels to the detector's canvases."""

from typing import Final

import cv2
import numpy as np

from triton_python_backend.contract import CLOSEUP_SIZE, FRAME_SIZE
from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.geometry import Letterbox

CANVAS_STEP: Final = 32
"""Edges of a canvas are multiples of this, the coarsest stride of SCRFD."""

FLATTEST: Final = 2
"""Width over height up to which faces are mapped back as insightface does."""


def make_frame(picture: Picture) -> tuple[Pixels, Letterbox]:
    """Fit a picture to the top left of the detector's canvas.

    The canvas ends with the row and column of blocks in which the picture ends: SCRFD answers the
    same as on 640 x 640, where the rest is black, and computes up to two fifths less.

    Returns:
        [h,w,3] uint8 RGB, h and w multiples of 32 up to 640, black beyond the picture; how the
        image (at full scale) lies in it.

    """
    width, height = _fitted_size(picture)
    frame = np.zeros((whole_blocks(height), whole_blocks(width), 3), dtype=np.uint8)
    # resized in place: the right and lower edge stay black
    _fit(picture, frame[:height, :width])
    return frame, frame_letterbox(picture)


def frame_letterbox(picture: Picture) -> Letterbox:
    """Tell how an image lies in its frame, as insightface's SCRFD.detect does.

    It fits the edges to whole pixels and maps both axes back by the height's share alone. Were
    faces mapped otherwise, their embeddings would not be insightface's: a pixel costs a cosine of
    0.01. In images flatter than `FLATTEST` it moves faces by more than two pixels of the canvas.
    """
    width, height = picture.width, picture.height
    if width > FLATTEST * height:
        return Letterbox(FRAME_SIZE / width, 0, 0)
    return Letterbox(_fitted_size(picture)[1] / height, 0, 0)


def make_closeup(picture: Picture) -> tuple[Pixels, Letterbox]:
    """Fit a picture, padded by half its size on each side, to the close-up canvas.

    A face that fills the photo has the surroundings there that the detector was trained with.

    Returns:
        [h,w,3] uint8 RGB, h and w multiples of 32 up to 320; how the image lies in it.

    """
    width, height = _fitted_size(picture)
    fitted = _fit(picture, np.empty((height, width, 3), dtype=np.uint8))
    scale = CLOSEUP_SIZE / 2 / max(picture.width, picture.height)
    # both axes by the same share, also where the edges come to no whole pixels
    inner = cv2.resize(
        fitted,
        None,
        fx=max(scale * picture.width / width, 0.51 / width),
        fy=max(scale * picture.height / height, 0.51 / height),
        interpolation=cv2.INTER_AREA,
    )
    inner_height, inner_width = inner.shape[:2]
    left, top = inner_width // 2, inner_height // 2
    size = (whole_blocks(2 * inner_height), whole_blocks(2 * inner_width), 3)
    closeup = np.zeros(size, dtype=np.uint8)
    closeup[top : top + inner_height, left : left + inner_width] = inner
    return closeup, Letterbox(scale, left, top)


def _fitted_size(picture: Picture) -> tuple[int, int]:
    # the rounding of insightface's SCRFD.detect, so that both see the same canvas
    width, height = picture.width, picture.height
    if height > width:
        return max(int(FRAME_SIZE * width / height), 1), FRAME_SIZE
    return FRAME_SIZE, max(int(FRAME_SIZE * height / width), 1)


def _fit(picture: Picture, canvas: Pixels) -> Pixels:
    """Fill `canvas`, [h,w,3] uint8, with the image as insightface's resizing would.

    A reduced picture's edges are rounded up: its last row or column may reach beyond the image's.
    So the scale is computed from the image's own edges; otherwise everything would shift by part of
    a pixel.
    """
    height, width = canvas.shape[:2]
    stored_height, stored_width = picture.pixels.shape[:2]
    return np.asarray(
        cv2.resize(
            picture.pixels,
            None,
            canvas,
            _scale(width, stored_width, picture.width / picture.reduction),
            _scale(height, stored_height, picture.height / picture.reduction),
            cv2.INTER_LINEAR,
        ),
        dtype=np.uint8,
    )


def _scale(size: int, stored: int, edge: float) -> float:
    """Tell what OpenCV shall multiply `stored` with, so that `edge` becomes `size`.

    OpenCV rounds the product to the canvas's size, which of a picture a few pixels thin it would
    miss.
    """
    return min(size / edge, (size + 0.49) / stored)


def whole_blocks(size: int) -> int:
    """Round an edge up to whole steps of a canvas."""
    return -(-size // CANVAS_STEP) * CANVAS_STEP

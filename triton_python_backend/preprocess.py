"""Stage 1 of 6: make the detector's canvases from pixels."""

from typing import Final

import cv2
import numpy as np

from triton_python_backend.contract import CLOSEUP_SIZE, FRAME_SIZE
from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.geometry import Letterbox

CANVAS_STEP: Final = 32
"""Edges of a canvas are multiples of this, the coarsest stride of SCRFD."""

FLATTEST: Final = 2
"""Aspect ratio up to which faces are mapped back as in insightface."""


def make_frame(picture: Picture) -> tuple[Pixels, Letterbox]:
    """Fit a picture to the top left of the detector's canvas.

    The canvas ends with the detector's last block that contains pixels: SCRFD's result is the same
    as on 640 x 640 with a black rest, for up to two fifths less computation.

    Returns:
        [h,w,3] uint8 RGB, h and w multiples of 32 up to 640, black beyond the picture; the map from
        the image (at full scale) to it.

    """
    width, height = _fitted_size(picture)
    frame = np.zeros((whole_blocks(height), whole_blocks(width), 3), dtype=np.uint8)
    # resized in place: pixels right of and below the picture stay black
    _fit(picture, frame[:height, :width])
    return frame, frame_letterbox(picture)


def frame_letterbox(picture: Picture) -> Letterbox:
    """Return the map from image to frame, as in insightface's SCRFD.detect.

    It rounds the edges to whole pixels and maps both axes back by the height's scale alone. With
    another map the embeddings would differ from insightface's: a pixel costs a cosine of 0.01. In
    images flatter than `FLATTEST` its map would shift faces by more than two canvas pixels.
    """
    width, height = picture.width, picture.height
    if width > FLATTEST * height:
        return Letterbox(FRAME_SIZE / width, 0, 0)
    return Letterbox(_fitted_size(picture)[1] / height, 0, 0)


def make_closeup(picture: Picture) -> tuple[Pixels, Letterbox]:
    """Fit a picture, padded by half its size on each side, to the close-up canvas.

    There a face that fills the photo has the surroundings that the detector was trained with.

    Returns:
        [h,w,3] uint8 RGB, h and w multiples of 32 up to 320; the map from the image to it.

    """
    width, height = _fitted_size(picture)
    fitted = _fit(picture, np.empty((height, width, 3), dtype=np.uint8))
    scale = CLOSEUP_SIZE / 2 / max(picture.width, picture.height)
    # one scale for both axes, even if the edges do not become whole pixels
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
    # rounded as in insightface's SCRFD.detect, for the same canvas
    width, height = picture.width, picture.height
    if height > width:
        return max(int(FRAME_SIZE * width / height), 1), FRAME_SIZE
    return FRAME_SIZE, max(int(FRAME_SIZE * height / width), 1)


def _fit(picture: Picture, canvas: Pixels) -> Pixels:
    """Fill `canvas`, [h,w,3] uint8, with the image as insightface's resize would.

    Decoding rounds a reduced picture's edges up: its last row or column may extend beyond the
    image. So the scale is computed from the image's own edges; otherwise everything would shift by
    part of a pixel.
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
    """Return OpenCV's scale factor for `stored`, so that `edge` becomes `size`.

    OpenCV rounds the product to the canvas's size; for a picture a few pixels thin this factor
    avoids another size.
    """
    return min(size / edge, (size + 0.49) / stored)


def whole_blocks(size: int) -> int:
    """Round an edge up to a multiple of the canvas step."""
    return -(-size // CANVAS_STEP) * CANVAS_STEP

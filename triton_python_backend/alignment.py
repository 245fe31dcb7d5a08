"""Stage 3 of 6: align each face of an image to a crop."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from triton_python_backend.contract import CROP_SIZE
from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.geometry import ARCFACE_TEMPLATE, Floats, similarities

_REDUCTIONS: Final = (8, 4, 2, 1)


def align(pixels: Pixels, landmarks: Floats) -> Pixels:
    """Warp each face onto the ArcFace template, as insightface's `norm_crop` does.

    Args:
        pixels: [H,W,3] uint8 RGB.
        landmarks: [N,5,2] float32, in those pixels.

    Returns:
        [N,112,112,3] uint8 RGB; black where a face reaches beyond the image.

    """
    crops = np.empty((len(landmarks), CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    matrices = similarities(landmarks, ARCFACE_TEMPLATE)
    for crop, matrix in zip(crops, matrices, strict=True):
        cv2.warpAffine(pixels, matrix, (CROP_SIZE, CROP_SIZE), dst=crop)
    return crops


def align_in(picture: Picture, landmarks: Floats, *, finer: Callable[[int], Picture]) -> Pixels:
    """Align faces as `align` does, in a picture that may be reduced.

    Args:
        picture: the image as decoded so far.
        landmarks: [N,5,2] float32, image pixels.
        finer: decodes the picture at a given reduction. Called at most once, and only if a face is
            smaller in `picture` than in the crop.

    """
    if picture.reduction == 1:
        return align(picture.pixels, landmarks)
    wanted = [coarsest(matrix) for matrix in similarities(landmarks, ARCFACE_TEMPLATE)]
    if wanted and min(wanted) < picture.reduction:
        picture = finer(min(wanted))
    return align(picture.pixels, picture.letterbox.from_image(landmarks))


def coarsest(matrix: Floats) -> int:
    """Return the largest reduction (1, 2, 4 or 8) with at least one pixel per crop pixel.

    matrix: [2,3] float32, the similarity from image to crop.
    """
    shrinks = 1 / float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return next((step for step in _REDUCTIONS if shrinks >= step), 1)

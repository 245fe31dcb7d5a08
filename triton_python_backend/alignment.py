"""Stage 3 of 7: faces of an image to aligned crops."""

import cv2
import numpy as np

from triton_python_backend.contract import CROP_SIZE
from triton_python_backend.geometry import ARCFACE_TEMPLATE, Floats, similarity
from triton_python_backend.preprocess import Pixels


def align(pixels: Pixels, landmarks: Floats) -> Pixels:
    """Warp each face onto the ArcFace template, as insightface's `norm_crop` does.

    Args:
        pixels: [H,W,3] uint8 RGB.
        landmarks: [N,5,2] float32, image pixels.

    Returns:
        [N,112,112,3] uint8 RGB; black where a face reaches beyond the image.

    """
    crops = np.empty((len(landmarks), CROP_SIZE, CROP_SIZE, 3), dtype=np.uint8)
    for crop, points in zip(crops, landmarks, strict=True):
        matrix = similarity(points, ARCFACE_TEMPLATE)
        crop[...] = cv2.warpAffine(pixels, matrix, (CROP_SIZE, CROP_SIZE))
    return crops

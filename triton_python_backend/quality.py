"""Part of stage 3 of 6: the quality of each face, from its box, landmarks and crop."""

from typing import Final

import cv2
import numpy as np

from triton_python_backend.contract import QUALITY_COLUMNS
from triton_python_backend.decoding import Pixels
from triton_python_backend.geometry import Floats

_SHARP_VARIANCE: Final = 150.0
"""Variance of the Laplacian (grey levels squared) at which sharpness is 0.5."""

_HEAD: Final[Floats] = np.array(
    [
        [-1.0, -1.0, 0.0],
        [1.0, -1.0, 0.0],
        [0.0, 0.14, 0.9],
        [-0.83, 1.08, 0.1],
        [0.83, 1.08, 0.1],
    ],
    dtype=np.float32,
)
"""A generic head: the five landmarks in half eye distances, x right, y down, z to the camera.

x and y are the medians of 148 frontal portraits in the wild. (The ArcFace template's mouth lies too
low for them and would read as looking down.) Depths are a coarse anthropometric average: the angles
are good enough to rank and filter faces, not to measure them.
"""
_FIT: Final[Floats] = np.linalg.pinv((_HEAD - _HEAD.mean(axis=0)).T)
"""[5,3]: maps five landmarks to the projection that fits them best."""


def assess(crops: Pixels, boxes: Floats, landmarks: Floats) -> Floats:
    """Measure the quality of each face.

    Args:
        crops: [N,112,112,3] uint8 RGB.
        boxes: [N,4] float32, image pixels.
        landmarks: [N,5,2] float32, image pixels.

    Returns:
        [N,Q] float32, columns as in `contract.QUALITY_COLUMNS`: size is the shorter edge of the
        box in image pixels; sharpness 0-1 and brightness 0-1 are taken on the crop; yaw, pitch
        and roll are degrees (see `head_pose`).

    """
    table = np.zeros((len(crops), len(QUALITY_COLUMNS)), dtype=np.float32)
    if not len(crops):
        return table
    table[:, 0] = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    for row, crop in zip(table, crops, strict=True):
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        row[1] = sharpness(grey)
        row[2] = cv2.mean(grey)[0] / 255
    table[:, 3:] = head_pose(landmarks)
    return table


def sharpness(grey: Pixels) -> float:
    """Sharpness 0-1 of the inner face of a crop [112,112] uint8, from its Laplacian's variance.

    Pech-Pacheco et al., ICPR 2000. Only the inner part counts, so that the black border of a face
    cut off by the photo's edge does not count as detail.
    """
    inner = grey[24:104, 24:88]
    _, deviation = cv2.meanStdDev(cv2.Laplacian(inner, cv2.CV_32F))
    variance = float(deviation[0, 0]) ** 2
    return variance / (variance + _SHARP_VARIANCE)


def head_pose(landmarks: Floats) -> Floats:
    """Estimate the head's angles from five landmarks: a weak-perspective fit of a generic head.

    Args:
        landmarks: [N,5,2] float32.

    Returns:
        [N,3] float32 degrees: yaw > 0 turns the nose to the right of the image, pitch > 0 looks
        up, roll > 0 is clockwise in the image.

    """
    points = landmarks - landmarks.mean(axis=1, keepdims=True)
    # points.T = P head.T, P = scale * (first two rows of the rotation)
    projection = np.swapaxes(points, 1, 2) @ _FIT
    across = _unit(np.asarray(projection[:, 0], dtype=np.float32))
    down = projection[:, 1] - np.sum(projection[:, 1] * across, axis=1, keepdims=True) * across
    down = _unit(np.asarray(down, dtype=np.float32))
    roll = np.arctan2(down[:, 0], across[:, 0])
    # undo the roll: the remaining forward axis (z) gives yaw and pitch
    cosine, sine = np.cos(roll), np.sin(roll)
    yaw = np.arcsin(np.clip(cosine * across[:, 2] + sine * down[:, 2], -1, 1))
    pitch = -np.arcsin(np.clip(cosine * down[:, 2] - sine * across[:, 2], -1, 1))
    return np.asarray(np.degrees(np.stack([yaw, pitch, roll], axis=1)), dtype=np.float32)


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-9), dtype=np.float32)

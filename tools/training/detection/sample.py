"""A scene with its labels; rotation, scaling and mirroring of labels.

Coordinates are the detectors' own: a picture extends from 0 to its width, so the centre of its
first pixel is at 0.5, and scaling the picture scales them. OpenCV's warps count from the centre of
the first pixel (`between_pixels`).
"""

from dataclasses import dataclass

import numpy as np

from tools.training.detection.scrfd import ByteArray, FloatArray

MIRRORED = (1, 0, 2, 4, 3)  # landmarks after a flip


@dataclass(frozen=True, slots=True)
class Sample:
    """A scene and its labels.

    image: ``[S,S,3]`` uint8 RGB; boxes ``[N,4]``, points ``[N,5,2]``, ignored ``[K,4]`` float32
    in its pixels. Boxes may reach beyond the image, as the teacher's do.
    """

    image: ByteArray
    boxes: FloatArray
    points: FloatArray
    ignored: FloatArray


def similarity(*, scale: float, degrees: float, flip: bool) -> FloatArray:
    """Return the 2x2 part of a similarity transform, mirrored left to right first where `flip`."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[cos, -sin], [sin, cos]], np.float32)
    mirror = np.array([-1.0 if flip else 1.0, 1.0], np.float32)
    return np.asarray(turn * mirror, np.float32)


def move_box(box: FloatArray, linear: FloatArray, offset: FloatArray) -> FloatArray:
    """Bound the ellipse inscribed in `box` after ``p -> linear @ p + offset``."""
    centre = linear @ ((box[:2] + box[2:]) / 2) + offset
    half = np.sqrt(((linear * ((box[2:] - box[:2]) / 2)) ** 2).sum(axis=1))
    return np.asarray(np.concatenate([centre - half, centre + half]), np.float32)


def move_points(points: FloatArray, linear: FloatArray, offset: FloatArray) -> FloatArray:
    """Transform landmarks ``[5,2]``; a mirroring transform exchanges left and right."""
    moved = (points @ linear.T + offset).astype(np.float32)
    return moved[list(MIRRORED)] if np.linalg.det(linear) < 0 else moved


def between_pixels(matrix: FloatArray) -> FloatArray:
    """Convert a 2x3 transform of coordinates to one of pixel centres, for ``cv2.warpAffine``."""
    linear, offset = matrix[:, :2], matrix[:, 2]
    moved = offset + linear @ np.full(2, 0.5, np.float32) - 0.5
    return np.hstack([linear, moved[:, None]]).astype(np.float32)


def mirrored(sample: Sample) -> Sample:
    """Flip a sample left to right, labels with it."""
    width = sample.image.shape[1]
    linear = similarity(scale=1.0, degrees=0.0, flip=True)
    offset = np.array([width, 0], np.float32)

    def boxes(old: FloatArray) -> FloatArray:
        moved = [move_box(box, linear, offset) for box in old]
        return np.array(moved, np.float32).reshape(-1, 4)

    points = [move_points(face, linear, offset) for face in sample.points]
    return Sample(
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        boxes=boxes(sample.boxes),
        points=np.array(points, np.float32).reshape(-1, 5, 2),
        ignored=boxes(sample.ignored),
    )

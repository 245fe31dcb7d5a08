"""Part of stage 3 of 6: find a picture's rotation from small views of it or of one of its faces.

The views only determine the rotation; faces are then detected in the rotated picture.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from triton_python_backend import quality
from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.detection import Detections
from triton_python_backend.geometry import Floats
from triton_python_backend.preprocess import make_frame
from triton_python_backend.rotation import turn_about

DIRECTIONS: Final[tuple[int, ...]] = (90, 180, 270, 45, 135, 225, 315)
"""Clockwise rotations of the views in degrees: the likely ones first."""

SIDES: Final[tuple[int, ...]] = (320, 320, 320, 256, 256, 256, 256)
"""Edges in pixels of the views of a whole picture. The first three (right angles) cost as much as
0.75 frames, the others 0.65."""

FACE_DIRECTIONS: Final[tuple[int, ...]] = (180, 135, 225, 90, 270)
"""Rotations of the views of one face. The detector often takes upside-down faces for upright ones,
but seldom faces that lie on their side, and then with low confidence: for a face of high confidence
the first three suffice."""

FACE_SIDE: Final = 128
"""Edge in pixels of the views of one face. Three cost as much as 0.12 frames."""

SURROUNDINGS: Final = 2.4
"""Edge of the region in a view of one face, in longer edges of the face's box."""

TILTED: Final = 40.0
"""Degrees of roll beyond which a face indicates another rotation than that of its view."""

LEANING: Final = 50.0
"""The same in a rotated view, so that no angle between two views is left out."""

ASLANT: Final = 30.0
"""Photos are taken at right angles, and heads tilt. A face may differ by this many degrees from a
right angle before the picture's rotation is taken from the face."""

_CORNER_SHARE: Final = 20
_PLAIN: Final = 3.0
"""Largest standard deviation in grey levels of a single-colour corner; JPEG adds some."""
_STEP: Final = 15
"""Rotations that are no right angles are rounded to this many degrees."""


def views_of_picture(picture: Picture, sides: Sequence[int] = SIDES) -> list[Pixels]:
    """Make views of the whole picture at several rotations, its diagonal fitted to the canvas.

    So nothing is cut off at any angle, and a face that fills the picture has surroundings.

    Returns:
        [s,s,3] uint8 RGB each, s as in `sides`, rotated by the first of `DIRECTIONS`.

    """
    height, width = picture.pixels.shape[:2]
    middle = np.array([width, height], dtype=np.float32) / 2
    reach = float(np.hypot(width, height))
    largest = _shrunk(picture.pixels, max(sides) / reach)
    share = largest.shape[1] / width
    return [
        _view(largest, middle * share, reach * share, degrees, side)
        for degrees, side in zip(DIRECTIONS, sides, strict=False)
    ]


def turned_frames(picture: Picture) -> list[Pixels]:
    """Make the picture's frame at the right angles of `DIRECTIONS`.

    Small faces (group photos) are as large there as in the frame. All three cost as much as 3
    frames. Used alone, they would misjudge faces that fill the photo more often.

    Returns:
        [h,w,3] uint8 RGB each, as from `make_frame`, or with h and w exchanged.

    """
    frame, _ = make_frame(picture)
    return [np.rot90(frame, -degrees // 90) for degrees in DIRECTIONS[:3]]


def has_plain_corners(picture: Picture) -> bool:
    """Whether each corner has a single colour, like corners filled when a picture is rotated."""
    height, width = picture.pixels.shape[:2]
    edge = max(min(height, width) // _CORNER_SHARE, 1)
    ends = (slice(0, edge), slice(-edge, None))
    corners = (picture.pixels[rows, columns] for rows in ends for columns in ends)
    return all(float(corner.std(axis=(0, 1)).max()) <= _PLAIN for corner in corners)


def views_of_face(
    picture: Picture, box: Floats, directions: Sequence[int] = FACE_DIRECTIONS
) -> list[Pixels]:
    """Make views of one face of a picture at several rotations.

    box: [4] float32, image pixels. directions: degrees clockwise.

    Returns:
        [128,128,3] uint8 RGB each.

    """
    corners = picture.letterbox.from_image(box.reshape(2, 2))
    middle = corners.mean(axis=0)
    reach = float(max(*(corners[1] - corners[0]), 1.0)) * SURROUNDINGS
    low = np.maximum(np.floor(middle - reach), 0).astype(int)
    high = np.ceil(middle + reach).astype(int) + 1
    part = picture.pixels[low[1] : high[1], low[0] : high[0]]
    small = _shrunk(part, FACE_SIDE / reach)
    share = small.shape[1] / part.shape[1]
    return [
        _view(small, (middle - low) * share, reach * share, degrees, FACE_SIDE)
        for degrees in directions
    ]


def find_direction(
    directions: Sequence[int], answers: Sequence[Detections], *, surer_than: float
) -> int:
    """Return the clockwise rotation that brings the most confident face upright.

    Args:
        directions: degrees by which each view was rotated; at least as many as answers.
        answers: the faces in each view.
        surer_than: minimum confidence of a face that determines the rotation.

    Returns:
        degrees, 0 to 359: a right angle if the face is then nearly upright; 0 if no face is
        confident enough.

    """
    best, wanted = surer_than, 0.0
    for degrees, found in zip(directions, answers, strict=False):
        rolls = quality.head_pose(found.landmarks)[:, 2]
        for roll, confidence in zip(rolls, found.confidence, strict=True):
            if abs(roll) <= LEANING and confidence > best:
                best, wanted = float(confidence), degrees - float(roll)
    square = round(wanted / 90) * 90
    if abs(wanted - square) <= ASLANT:
        return square % 360
    return round(wanted / _STEP) * _STEP % 360


def upright_confidence(found: Detections) -> float:
    """Confidence of the most confident upright face; 0 if there is none."""
    rolls = quality.head_pose(found.landmarks)[:, 2]
    return float(found.confidence[np.abs(rolls) <= TILTED].max(initial=0))


def _shrunk(pixels: Pixels, scale: float) -> Pixels:
    # bilinear sampling at a much smaller scale would skip most pixels
    if scale >= 1:
        return pixels
    height, width = (max(round(edge * scale), 1) for edge in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _view(pixels: Pixels, middle: Floats, reach: float, degrees: int, side: int) -> Pixels:
    """Rotate clockwise about `middle`; `reach` pixels fill the edge of the canvas."""
    matrix = turn_about(degrees, middle - 0.5, np.full(2, side / 2 - 0.5), scale=side / reach)
    return np.asarray(cv2.warpAffine(pixels, matrix, (side, side)), dtype=np.uint8)

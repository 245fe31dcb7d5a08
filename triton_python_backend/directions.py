"""Part of stage 3 of 7: small looks at a picture, or a face of it, from all sides.

They only show how the picture lies; faces are then looked for in its frame, turned so.
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
from triton_python_backend.turning import turn_about

DIRECTIONS: Final[tuple[int, ...]] = (90, 180, 270, 45, 135, 225, 315)
"""Degrees clockwise by which the looks are turned: the likely ones, then those between."""

SIDES: Final[tuple[int, ...]] = (320, 320, 320, 256, 256, 256, 256)
"""Edges in pixels of the looks at a whole picture. The first three, at right angles, cost as much
as 0.75 frames, the others 0.65."""

FACE_DIRECTIONS: Final[tuple[int, ...]] = (180, 135, 225, 90, 270)
"""What stands on its head is often taken for an upright face; what lies on its side seldom, and
then never surely: the first three are for faces that are nearly sure."""

FACE_SIDE: Final = 128
"""Edge in pixels of the looks at one face. Three cost as much as 0.12 frames."""

SURROUNDINGS: Final = 2.4
"""Edge of what a look at one face shows, in longer edges of its box."""

TILTED: Final = 40.0
"""Degrees of roll beyond which a face speaks for another direction than that of the look."""

LEANING: Final = 50.0
"""The same in a turned look, so that between two of them no angle is left out."""

ASLANT: Final = 30.0
"""A photo lies as cameras are held, and heads tilt: by so many degrees at most a face may differ
from a right angle until the picture counts as turned by another one."""

_CORNER_SHARE: Final = 20
_PLAIN: Final = 3.0
"""Grey levels of deviation, which JPEG may leave in one colour."""
_STEP: Final = 15
"""Degrees; other angles are rounded to it."""


def views_of_picture(picture: Picture, sides: Sequence[int] = SIDES) -> list[Pixels]:
    """Show the whole picture from several sides, its diagonal as long as the canvas's edge.

    So nothing is cut off at any angle, and a face that fills the picture has surroundings.

    Returns:
        [s,s,3] uint8 RGB each, s as in `sides`, turned by the first of `DIRECTIONS`.

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
    """Show the picture's frame turned by the right angles of `DIRECTIONS`.

    Small faces, as of a group, are as large there as in the frame itself. All three cost as much
    as 3 frames. In them alone, faces that fill the photo would be taken the wrong way more often.

    Returns:
        [h,w,3] uint8 RGB each, as `make_frame` gives it or with h and w exchanged.

    """
    frame, _ = make_frame(picture)
    return [np.rot90(frame, -degrees // 90) for degrees in DIRECTIONS[:3]]


def has_plain_corners(picture: Picture) -> bool:
    """Whether all corners are of one colour each, as those filled when a picture was turned."""
    height, width = picture.pixels.shape[:2]
    edge = max(min(height, width) // _CORNER_SHARE, 1)
    ends = (slice(0, edge), slice(-edge, None))
    corners = (picture.pixels[rows, columns] for rows in ends for columns in ends)
    return all(float(corner.std(axis=(0, 1)).max()) <= _PLAIN for corner in corners)


def views_of_face(
    picture: Picture, box: Floats, directions: Sequence[int] = FACE_DIRECTIONS
) -> list[Pixels]:
    """Show one face of a picture from several sides.

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
    """Find the clockwise turn by which the surest face of all looks comes to stand upright.

    Args:
        directions: degrees by which each look was turned; as many as answers, or more.
        answers: the faces in each look.
        surer_than: a face speaks for a direction from here on.

    Returns:
        degrees, 0 to 359: a right angle where the face is nearly upright then; 0 if no face is
        sure enough.

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
    """Confidence of the surest face that is not tilted; 0 if there is none."""
    rolls = quality.head_pose(found.landmarks)[:, 2]
    return float(found.confidence[np.abs(rolls) <= TILTED].max(initial=0))


def _shrunk(pixels: Pixels, scale: float) -> Pixels:
    # bilinear sampling of much larger pixels would leave most of them out
    if scale >= 1:
        return pixels
    height, width = (max(round(edge * scale), 1) for edge in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _view(pixels: Pixels, middle: Floats, reach: float, degrees: int, side: int) -> Pixels:
    """Turn clockwise about `middle`; so many pixels as `reach` fill the edge of the canvas."""
    matrix = turn_about(degrees, middle - 0.5, np.full(2, side / 2 - 0.5), scale=side / reach)
    return np.asarray(cv2.warpAffine(pixels, matrix, (side, side)), dtype=np.uint8)

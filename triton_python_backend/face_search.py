"""Part of stage 3 of 6: search an image's faces beyond the detections in its frame.

A confident, upright face ends the search. Without one a face may fill the picture (searched in the
close-up), or the picture may be rotated (searched in rotated views). Tiles show small faces of a
large picture on request.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from triton_python_backend import preprocess
from triton_python_backend.contract import FRAME_SIZE, Look
from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.detection import (
    Detections,
    joined,
    merge,
    without_doubles,
)
from triton_python_backend.geometry import Floats, areas
from triton_python_backend.rotation import Turn, turn_picture
from triton_python_backend.rotation_search import (
    DIRECTIONS,
    FACE_DIRECTIONS,
    SIDES,
    find_direction,
    has_plain_corners,
    turned_frames,
    upright_confidence,
    views_of_face,
    views_of_picture,
)
from triton_python_backend.second_look import UNMEASURED, SecondLook
from triton_python_backend.tiles import busiest_tiles, make_tiles

FAINT: Final = 0.55
"""Below this confidence the detections may not be faces: views of the whole picture are tried."""

TURNED: Final = 0.65
"""Minimum confidence of a face that determines the rotation; none of 500 scenes had a false one."""

LONGEST_TURNED: Final = 2 * FRAME_SIZE
"""Longest edge in pixels of a picture rotated by other than right angles."""

TILES_TURNED: Final = 12
"""Number of tiles searched at several rotations if high detail finds no upright face."""


class Ask(Protocol):
    """Runs the detector that produced the frame's detections on other canvases."""

    def __call__(self, canvases: Sequence[Pixels]) -> list[Detections] | None:
        """Detect faces on each canvas, in its pixels; None if the detector is no longer served."""


@dataclass(frozen=True, slots=True)
class Found:
    """All faces of an image, largest first, in its pixels.

    upright: their landmarks, [N,5,2] float32, in the picture as searched. degrees: its clockwise
    rotation for the search. picture: the image at the finest scale decoded so far.
    """

    faces: Detections
    upright: Floats
    degrees: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class _Sight:
    """The faces of a picture at one rotation; sure: confidence of the best upright face."""

    faces: Detections
    sure: float


def find_faces(
    picture: Picture,
    frame: Detections,
    look: Look,
    *,
    ask: Ask,
    finer: Callable[[int], Picture],
    second_look: SecondLook = UNMEASURED,
) -> Found:
    """Find the faces of a picture.

    Args:
        picture: the image as decoded so far.
        frame: the detections in the picture's frame, in pixels of that canvas.
        look: the request's search options.
        ask: runs the same detector on further canvases.
        finer: decodes the picture at a given reduction.
        second_look: the detector's confidences that decide about further canvases.

    """
    below = second_look if look.rotation == "auto" else replace(second_look, turned_below=0.0)
    tiled = look.detail == "high"
    if tiled and picture.reduction > 1:
        picture = finer(1)
    sight = _look(picture, ask, below, frame=frame, tiled=tiled)
    if sight.sure < below.turned_below:
        degrees = _find_direction(picture, sight, ask, tiled=tiled)
        if degrees:
            longest = max(picture.pixels.shape) if tiled else LONGEST_TURNED
            turned, turn = turn_picture(picture, degrees, longest=longest)
            other = _look(turned, ask, below, tiled=tiled)
            if other.sure > sight.sure:
                return _turned_back(other.faces, turn, picture)
    return Found(sight.faces, sight.faces.landmarks, 0, picture)


def _look(
    picture: Picture,
    ask: Ask,
    below: SecondLook,
    *,
    frame: Detections | None = None,
    tiled: bool = False,
) -> _Sight:
    """Search the frame, the tiles if requested, and the close-up if the frame is unclear.

    The close-up costs less than rotated views, so it comes first.
    """
    size = {"width": picture.width, "height": picture.height}
    if frame is None:
        frame = _only(ask([preprocess.make_frame(picture)[0]]))
    faces = frame.to_image(preprocess.frame_letterbox(picture), **size)
    if tiled:
        faces = without_doubles(joined([faces, *_look_at_tiles(picture, ask)]))
    sure, closeup = upright_confidence(faces), None
    surest = float(faces.confidence.max(initial=0))
    if surest < below.closeup_below or sure < below.turned_below:
        canvas, letterbox = preprocess.make_closeup(picture)
        answer = ask([canvas])
        if answer is not None:
            closeup = _only(answer).to_image(letterbox, **size)
            sure = max(sure, upright_confidence(closeup))
    return _Sight(merge(faces, closeup, **size), sure)


def _look_at_tiles(picture: Picture, ask: Ask) -> list[Detections]:
    tiles = list(make_tiles(picture))
    answers = ask([tile.canvas for tile in tiles]) if tiles else None
    return [
        tile.whole_faces(found).to_image(tile.letterbox, width=picture.width, height=picture.height)
        for tile, found in zip(tiles, answers or [Detections.none()] * len(tiles), strict=True)
    ]


def _find_direction(picture: Picture, sight: _Sight, ask: Ask, *, tiled: bool) -> int:
    """Return the clockwise rotation that brings the picture upright, in degrees."""
    faces = sight.faces

    def conclude(canvases: Sequence[Pixels], directions: Sequence[int]) -> int:
        answers = ask(canvases) or []
        return find_direction(directions, answers, surer_than=max(TURNED, sight.sure))

    if sight.sure >= FAINT and len(faces.boxes):
        surest = faces.boxes[faces.confidence.argmax()]
        # among the many faces in tiles, some always have nearly sufficient confidence
        directions = FACE_DIRECTIONS if tiled or sight.sure < TURNED else FACE_DIRECTIONS[:3]
        degrees = conclude(views_of_face(picture, surest, directions), directions)
        if degrees:
            return degrees
        # it may be a false detection, while the real face has another rotation and was missed
    # a picture rotated by another than a right angle has filled corners
    sides = SIDES if has_plain_corners(picture) else SIDES[:3]
    degrees = conclude(views_of_picture(picture, sides), DIRECTIONS)
    if not degrees and max(picture.width, picture.height) > max(SIDES):
        degrees = conclude(turned_frames(picture), DIRECTIONS)
    if not degrees and tiled:
        degrees = conclude(*_turned_tiles(picture))
    return degrees


def _turned_tiles(picture: Picture) -> tuple[list[Pixels], list[int]]:
    """Rotate some tiles by right angles, for faces that only tiles show; canvases and degrees."""
    tiles = busiest_tiles(picture, most=TILES_TURNED)
    pairs = [(tile, quarters) for quarters in (1, 2, 3) for tile in tiles]
    canvases = [np.rot90(tile.canvas, -quarters) for tile, quarters in pairs]
    return canvases, [90 * quarters for _, quarters in pairs]


def _turned_back(faces: Detections, turn: Turn, picture: Picture) -> Found:
    edges = np.array([picture.width, picture.height] * 2, dtype=np.float32)
    boxes = np.clip(turn.boxes_to_image(faces.boxes), 0, edges).astype(np.float32)
    mapped = Detections(boxes, turn.to_image(faces.landmarks), faces.confidence)
    order = np.argsort(-areas(boxes), kind="stable")
    order = order[areas(boxes)[order] > 0]
    return Found(mapped.take(order), faces.landmarks[order], turn.degrees, picture)


def _only(answer: list[Detections] | None) -> Detections:
    return Detections.none() if not answer else answer[0]

"""Stage 2 of 6 is a network; this module merges its detections on several canvases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from triton_python_backend.contract import NMS_IOU
from triton_python_backend.geometry import (
    Floats,
    Letterbox,
    areas,
    overlaps,
    shared_with_smaller,
)

CLOSEUP_MIN_EDGE: Final = 0.4
"""A close-up face counts if its longer edge is at least this share of the image's longer edge. The
frame shows smaller faces four times larger."""

PART_OF: Final = 0.7
"""A box that lies in another one by more than this share is a part of that face."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Detected faces; row i of each array is the same face.

    boxes: [N,4] float32 x1 y1 x2 y2. landmarks: [N,5,2] float32. confidence: [N] float32, 0-1.
    """

    boxes: Floats
    landmarks: Floats
    confidence: Floats

    @classmethod
    def none(cls) -> "Detections":
        """Return detections without a face."""
        empty = [np.zeros(shape, dtype=np.float32) for shape in ((0, 4), (0, 5, 2), (0,))]
        return cls(*empty)

    def take(self, rows: npt.NDArray[Any] | slice) -> "Detections":
        """Select the faces at `rows` (indices, a mask or a slice), in that order."""
        return Detections(self.boxes[rows], self.landmarks[rows], self.confidence[rows])

    def seen(self) -> "Detections":
        """Drop the filler rows, whose confidence is 0."""
        return self.take(self.confidence > 0)

    def largest_first(self) -> "Detections":
        """Sort by area."""
        return self.take(np.argsort(-areas(self.boxes), kind="stable"))

    def to_image(self, letterbox: Letterbox, *, width: int, height: int) -> "Detections":
        """Map detections from a canvas to the image and clip their boxes to it.

        Faces whose box then has no area are dropped.
        """
        corners = letterbox.to_image(self.boxes.reshape(-1, 2, 2))
        corners = np.clip(corners, 0, np.array([width, height], dtype=np.float32))
        mapped = Detections(
            corners.reshape(-1, 4).astype(np.float32),
            letterbox.to_image(self.landmarks),
            self.confidence,
        )
        return mapped.take(areas(mapped.boxes) > 0)


def merge(frame: Detections, closeup: Detections | None, *, width: int, height: int) -> Detections:
    """Add the large faces that only the close-up shows; largest first.

    Both are in image pixels; `closeup` is None if no close-up was searched. Of a face in both, the
    frame's detection is kept: its canvas is finer.
    """
    if closeup is None:
        return frame.largest_first()
    extent = closeup.boxes[:, 2:] - closeup.boxes[:, :2]
    large = extent.max(axis=1, initial=0) >= CLOSEUP_MIN_EDGE * max(width, height)
    new = overlaps(closeup.boxes, frame.boxes).max(axis=1, initial=0) <= NMS_IOU
    return joined([frame, closeup.take(large & new)]).largest_first()


def joined(parts: Sequence[Detections]) -> Detections:
    """Concatenate the faces of all parts (at least one)."""
    return Detections(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
        np.concatenate([part.confidence for part in parts]),
    )


def without_doubles(faces: Detections) -> Detections:
    """Keep the most confident detection of each face seen on several canvases; largest first.

    Boxes belong to one face if they overlap, or if one lies in the other: a fine scale detects
    faces in parts of a large one.
    """
    left = faces.take(np.argsort(-faces.confidence, kind="stable"))
    kept = []
    while len(left.boxes):
        first = left.take(np.array([0]))
        kept.append(first)
        apart = overlaps(left.boxes, first.boxes)[:, 0] <= NMS_IOU
        apart &= shared_with_smaller(left.boxes, first.boxes)[:, 0] <= PART_OF
        apart[0] = False
        left = left.take(apart)
    return joined([*kept, left]).largest_first()

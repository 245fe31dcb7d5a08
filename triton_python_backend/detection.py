"""Stage 2 of 7 is a network; here its answers for the two canvases become faces of the image."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from triton_python_backend.contract import MAX_FACES, NMS_IOU
from triton_python_backend.geometry import Floats, Letterbox, areas, overlaps

SURE: Final = 0.77
"""No close-up is looked at where the frame shows a face of at least this confidence. Of 8,045
photos at hand, 28 had a face in the frame and one more in the close-up (det_500m); the surest of
the frame's had 0.758, so that all are still found."""

CLOSEUP_MIN_EDGE: Final = 0.4
"""A close-up face counts if its longer edge is at least this share of the image's longer edge;
smaller ones are the frame's business, which sees them four times larger."""


@dataclass(frozen=True, slots=True)
class Detections:
    """Faces found, row by row the same face.

    boxes: [N,4] float32 x1 y1 x2 y2. landmarks: [N,5,2] float32. confidence: [N] float32, 0-1.
    """

    boxes: Floats
    landmarks: Floats
    confidence: Floats

    def take(self, rows: npt.NDArray[Any]) -> "Detections":
        """Select the faces at `rows` (indices or a mask), in that order."""
        return Detections(self.boxes[rows], self.landmarks[rows], self.confidence[rows])

    def seen(self) -> "Detections":
        """Drop the filler rows, whose confidence is 0."""
        return self.take(self.confidence > 0)

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


def needs_closeup(frame: Detections) -> bool:
    """Whether the frame's faces leave open that a larger one fills the photo."""
    return not (frame.confidence >= SURE).any()


def merge(frame: Detections, closeup: Detections | None, *, width: int, height: int) -> Detections:
    """Add the large faces that only the close-up shows; largest first, at most 32.

    Both in image pixels; None where no close-up was looked at. Where both see a face the frame's
    answer stands: its canvas is finer.
    """
    if closeup is None:
        return _largest(frame)
    extent = closeup.boxes[:, 2:] - closeup.boxes[:, :2]
    large = extent.max(axis=1, initial=0) >= CLOSEUP_MIN_EDGE * max(width, height)
    new = overlaps(closeup.boxes, frame.boxes).max(axis=1, initial=0) <= NMS_IOU
    extra = closeup.take(large & new)
    everyone = Detections(
        np.concatenate([frame.boxes, extra.boxes]),
        np.concatenate([frame.landmarks, extra.landmarks]),
        np.concatenate([frame.confidence, extra.confidence]),
    )
    return _largest(everyone)


def _largest(faces: Detections) -> Detections:
    by_area = np.argsort(-areas(faces.boxes), kind="stable")
    return faces.take(by_area[:MAX_FACES])

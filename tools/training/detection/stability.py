"""Stable detections: faces that a detector finds in every varied view of a picture.

A detector does not agree completely with itself: in a picture mirrored or moved by half a cell,
faces near the threshold appear and disappear, and landmarks shift. So a student is compared with
the teacher's detections common to three varied views. The teacher's own detections in the original
picture, which is none of these views, are compared in the same way: they are the upper limit.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from tools.training.detection.sample import MIRRORED
from tools.training.detection.scrfd import (
    ByteArray,
    Detections,
    RawDetector,
    iou_matrix,
    suppress,
)

MOVED: Final = 4
"""Shift in pixels: half a cell of the finest stride if the picture is as large as the canvas."""
SAME_IOU: Final = 0.5


def steady_faces(network: RawDetector, image: ByteArray) -> Detections:
    """Return the faces of ``[H,W,3]`` uint8 RGB found in every varied view, in image pixels.

    Boxes, landmarks and scores are means over the views.
    """
    moved = cv2.copyMakeBorder(image, MOVED, 0, MOVED, 0, cv2.BORDER_CONSTANT)
    back = {"scale": 1.0, "dx": -MOVED, "dy": -MOVED}
    return agreed(
        [
            mirrored(network, image),
            network.detect_twice(np.asarray(moved, np.uint8)).moved(**back),
            mirrored(network, np.asarray(moved, np.uint8)).moved(**back),
        ]
    )


def mirrored(network: RawDetector, image: ByteArray) -> Detections:
    """Detect faces in the mirror image and map them back."""
    found = network.detect_twice(np.ascontiguousarray(image[:, ::-1]))
    boxes, points = found.boxes.copy(), found.landmarks[:, MIRRORED].copy()
    boxes[:, [0, 2]] = image.shape[1] - found.boxes[:, [2, 0]]
    points[..., 0] = image.shape[1] - points[..., 0]
    return Detections(boxes, points, found.scores)


def agreed(answers: Sequence[Detections]) -> Detections:
    """Return the faces contained in every answer, averaged."""
    everyone = Detections(
        np.concatenate([each.boxes for each in answers]),
        np.concatenate([each.landmarks for each in answers]),
        np.concatenate([each.scores for each in answers]),
    )
    first = suppress(everyone)
    overlaps = [iou_matrix(first.boxes, each.boxes) for each in answers]
    seen = np.array([table.max(axis=1, initial=0) >= SAME_IOU for table in overlaps]).all(axis=0)
    faces = np.flatnonzero(seen)
    same = [
        answer.select(table[faces].argmax(axis=1) if len(faces) else faces)
        for answer, table in zip(answers, overlaps, strict=True)
    ]
    return Detections(
        np.mean([each.boxes for each in same], axis=0).astype(np.float32),
        np.mean([each.landmarks for each in same], axis=0).astype(np.float32),
        np.mean([each.scores for each in same], axis=0).astype(np.float32),
    )

"""What a detector sees for sure: the faces that it finds however the picture is turned or moved.

No detector agrees wholly with itself: mirror a picture or move it by half a cell, and faces near
the threshold come and go, and landmarks shift. So a student is held against what its teacher
answers about three changed views, all of them, and beside it stands the teacher's own answer to the
picture as it is, which has not seen those views either: no more can be asked for.
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
"""Pixels, half a cell of the finest stride where the picture is as large as the canvas."""
SAME_IOU: Final = 0.5


def steady_faces(network: RawDetector, image: ByteArray) -> Detections:
    """Faces of ``[H,W,3]`` uint8 RGB seen in every changed view, in the image's pixels.

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
    """Faces in the mirror image, mapped back."""
    found = network.detect_twice(np.ascontiguousarray(image[:, ::-1]))
    boxes, points = found.boxes.copy(), found.landmarks[:, MIRRORED].copy()
    boxes[:, [0, 2]] = image.shape[1] - found.boxes[:, [2, 0]]
    points[..., 0] = image.shape[1] - points[..., 0]
    return Detections(boxes, points, found.scores)


def agreed(answers: Sequence[Detections]) -> Detections:
    """Faces that every answer has, as the mean of them."""
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

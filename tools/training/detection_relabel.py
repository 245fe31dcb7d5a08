"""What the teacher sees in a composed scene, beside what was pasted into it.

Labels that were moved along with the photos know neither which half-hidden faces the teacher
still finds nor where it puts the landmarks of what it sees there.
"""

from dataclasses import replace

import numpy as np

from tools.training.detection_compose import Sample
from tools.training.detection_scrfd import Detections, FloatArray, iou_matrix

SEEN = 0.5  # at or above the teacher's score is a label
DOUBTFUL = 0.3  # from here up to `SEEN` it is neither face nor background
SAME_IOU = 0.5


def relabel(sample: Sample, seen: Detections) -> Sample:
    """Merge the pasted faces with those that the teacher sees from a score of `DOUBTFUL` on.

    A face known from both sides gets the mean of both labels, since both are inexact; one that
    only the teacher sees becomes a face, also where it was ignored as half hidden; what it
    doubts is ignored. Pasted faces that it does not see stay faces.
    """
    sure = seen.select(seen.scores >= SEEN)
    doubtful = seen.select(seen.scores < SEEN)
    boxes, points = sample.boxes.copy(), sample.points.copy()
    overlaps = iou_matrix(sure.boxes, sample.boxes)
    new = np.ones(len(sure), bool)
    for row in range(len(sure)):
        if len(boxes) and overlaps[row].max() >= SAME_IOU:
            face = int(overlaps[row].argmax())
            boxes[face] = (sample.boxes[face] + sure.boxes[row]) / 2
            points[face] = (sample.points[face] + sure.landmarks[row]) / 2
            new[row] = False
    found = sure.select(new)
    boxes = np.concatenate([boxes, found.boxes])
    points = np.concatenate([points, found.landmarks])
    ignored = np.concatenate([sample.ignored, doubtful.boxes])
    return replace(sample, boxes=boxes, points=points, ignored=_apart(ignored, boxes))


def _apart(ignored: FloatArray, faces: FloatArray) -> FloatArray:
    if not len(ignored) or not len(faces):
        return ignored
    return np.asarray(ignored[iou_matrix(ignored, faces).max(axis=1) < SAME_IOU], np.float32)

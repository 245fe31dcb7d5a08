"""Faces found, as the detector's training has them."""

import numpy as np

from tools.training.detection.scrfd import Detections


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    """Faces whose landmarks all lie in the middle of their boxes (xyxy)."""
    frame = np.array(boxes, np.float32).reshape(-1, 4)
    middles = (frame[:, :2] + frame[:, 2:]) / 2
    points = np.repeat(middles[:, None], 5, axis=1)
    return Detections(frame, points, np.array(scores, np.float32))

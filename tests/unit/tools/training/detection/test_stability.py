"""Steady faces: a detector finds them in mirrored and moved pictures."""

import numpy as np

from tests.support.detections import detections
from tools.training.detection.scrfd import Detections
from tools.training.detection.stability import MOVED, agreed, mirrored, steady_faces

IMAGE = np.zeros((100, 200, 3), np.uint8)


class Marks:
    """A detector that sees a face in each bright spot, with its left eye on the left edge."""

    def __init__(self, *, blind_in_mirrors: bool = False) -> None:
        self.blind = blind_in_mirrors

    def detect_twice(self, image: np.ndarray) -> Detections:
        rows, columns = np.nonzero(image[..., 0])
        if not len(rows):
            return detections([], [])
        x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        if self.blind and x1 + x2 > image.shape[1]:
            return detections([], [])
        found = detections([[x1, y1, x2, y2]], [0.9])
        found.landmarks[0, 0] = x1, y1
        found.landmarks[0, 1] = x2, y1
        return found


def spot() -> np.ndarray:
    image = IMAGE.copy()
    image[20:60, 30:60] = 255
    return image


def test_a_mirrored_face_returns_to_its_place_with_its_eyes_in_order() -> None:
    found = mirrored(Marks(), spot())
    np.testing.assert_allclose(found.boxes, [[30, 20, 60, 60]])
    np.testing.assert_allclose(found.landmarks[0, :2], [[30, 20], [60, 20]])


def test_a_face_found_in_every_view_is_steady() -> None:
    found = steady_faces(Marks(), spot())
    np.testing.assert_allclose(found.boxes, [[30, 20, 60, 60]])
    np.testing.assert_allclose(found.landmarks[0, :2], [[30, 20], [60, 20]])
    np.testing.assert_allclose(found.scores, [0.9])


def test_a_face_lost_in_one_view_is_not_steady() -> None:
    assert len(steady_faces(Marks(blind_in_mirrors=True), spot())) == 0
    assert len(steady_faces(Marks(), IMAGE)) == 0


def test_answers_are_averaged_face_by_face() -> None:
    first = detections([[0, 0, 100, 100], [200, 0, 300, 100]], [0.9, 0.6])
    second = detections([[204, 0, 304, 100], [2, 0, 102, 100], [500, 0, 600, 100]], [0.8, 0.7, 0.9])
    found = agreed([first, second])
    np.testing.assert_allclose(found.boxes, [[1, 0, 101, 100], [202, 0, 302, 100]])
    np.testing.assert_allclose(found.scores, [0.8, 0.7])
    np.testing.assert_allclose(found.landmarks[:, 0], [[51, 50], [252, 50]])
    assert MOVED == 4

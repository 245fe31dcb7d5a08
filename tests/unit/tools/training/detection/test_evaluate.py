"""Agreement of detectors, over pictures and over sets of pictures."""

import numpy as np
import pytest

from tests.support.detections import detections
from tools.training.detection.evaluate import Agreement, Comparison
from tools.training.detection.scrfd import Detections
from tools.training.detection.splits import Split

IMAGE = np.zeros((320, 640, 3), np.uint8)
FACES = [[100.0, 100.0, 200.0, 200.0], [300.0, 100.0, 360.0, 180.0]]


class Always:
    """A detector with one answer to every picture."""

    def __init__(self, found: Detections) -> None:
        self.found = found

    def detect_twice(self, _: np.ndarray) -> Detections:
        return self.found


def with_eyes(boxes: list[list[float]], *, off: float = 0.0) -> Detections:
    """Return faces with eyes 40 pixels apart, all landmarks moved to the right by `off`."""
    found = detections(boxes, [0.9] * len(boxes))
    found.landmarks[:, 0, 0] -= 20
    found.landmarks[:, 1, 0] += 20
    found.landmarks[..., 0] += off
    return found


def looked(student: Detections, times: int = 1) -> Comparison:
    comparison = Comparison()
    teacher = Always(with_eyes(FACES))
    for _ in range(times):
        comparison.look(IMAGE, teacher=teacher, student=Always(student), peer=teacher)
    return comparison


def test_found_faces_and_their_landmarks_are_counted() -> None:
    report = looked(with_eyes(FACES[:1], off=4.0)).report()
    assert (report["faces"], report["recall"]) == (2, 0.5)
    assert report["landmark_error_mean"] == pytest.approx(0.1)
    assert report["peer"]["recall"] == 1
    assert report["of_peer"]["recall"] == 0.5


def test_several_sets_count_as_one() -> None:
    together = Comparison()
    together.include(looked(with_eyes(FACES[:1], off=4.0), times=2))
    together.include(looked(with_eyes(FACES, off=8.0)))
    report = together.report()
    assert (report["images"], report["faces"]) == (3, 6)
    assert report["recall"] == pytest.approx(4 / 6)
    assert report["landmark_error_mean"] == pytest.approx((0.1 + 0.1 + 0.2 + 0.2) / 4)
    assert report["peer"]["faces"] == 6


def test_small_faces_do_not_count_and_other_boxes_are_extra() -> None:
    agreement = Agreement()
    tiny = [[10.0, 10.0, 30.0, 30.0]]
    agreement.add(with_eyes([*FACES, *tiny]), with_eyes([[500, 0, 600, 100]]), scale=1.0)
    assert (agreement.faces, agreement.found, agreement.extra) == (2, 0, 1)


def test_a_narrow_face_weighs_by_its_own_eyes_in_the_pooled_landmark_error() -> None:
    teacher, student = with_eyes(FACES), with_eyes(FACES, off=4.0)
    teacher.landmarks[1, 0, 0] += 32  # 8 pixels are left between these eyes
    student.landmarks[1, 0, 0] += 32
    agreement = Agreement()
    agreement.add(teacher, student, scale=1.0)
    report = agreement.report()
    assert report["landmark_error_mean"] == pytest.approx((4 / 40 + 4 / 8) / 2)
    assert report["landmark_error_pooled"] == pytest.approx((4 + 4) / (40 + 8))


def test_the_two_held_out_parts_share_no_photo() -> None:
    rows = np.arange(1000, 1057)
    parts = [part.of(rows) for part in Split]
    assert sorted(np.concatenate(parts)) == rows.tolist()
    assert [len(each) for each in parts] == [35, 22]
    assert Split.CHOICE.composed_seed != Split.LAST_WORD.composed_seed

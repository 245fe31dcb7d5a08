"""What a teacher sees in a composed scene, merged with what was pasted there."""

import numpy as np

from tools.training.detection_compose import Sample
from tools.training.detection_relabel import relabel
from tools.training.detection_scrfd import Detections

FACE = [10, 10, 50, 50]
ELSEWHERE = [100, 100, 140, 150]
NOTHING: list[list[float]] = []


def points_of(boxes: np.ndarray) -> np.ndarray:
    return np.repeat((boxes[:, None, :2] + boxes[:, None, 2:]) / 2, 5, axis=1)


def sample(boxes, *, ignored=NOTHING) -> Sample:
    frame, hidden = (np.array(each, np.float32).reshape(-1, 4) for each in (boxes, ignored))
    return Sample(np.zeros((160, 160, 3), np.uint8), frame, points_of(frame), hidden)


def seen(*faces: tuple[list[float], float]) -> Detections:
    boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in faces], np.float32)
    return Detections(boxes, points_of(boxes), scores)


def test_a_face_known_from_both_sides_lies_between_them():
    merged = relabel(sample([FACE, ELSEWHERE]), seen(([14, 10, 54, 50], 0.9)))
    np.testing.assert_allclose(merged.boxes, [[12, 10, 52, 50], ELSEWHERE])
    np.testing.assert_allclose(merged.points, points_of(merged.boxes))


def test_a_half_hidden_face_that_the_teacher_sees_is_a_face():
    merged = relabel(sample([FACE], ignored=[ELSEWHERE]), seen((ELSEWHERE, 0.6)))
    np.testing.assert_allclose(merged.boxes, [FACE, ELSEWHERE])
    assert not len(merged.ignored)


def test_what_the_teacher_doubts_is_ignored_unless_it_was_pasted():
    merged = relabel(sample([FACE]), seen((FACE, 0.4), (ELSEWHERE, 0.4)))
    np.testing.assert_allclose(merged.boxes, [FACE])
    np.testing.assert_allclose(merged.ignored, [ELSEWHERE])


def test_what_the_teacher_does_not_see_stays_as_it_was():
    merged = relabel(sample([FACE], ignored=[ELSEWHERE]), seen())
    np.testing.assert_allclose(merged.boxes, [FACE])
    np.testing.assert_allclose(merged.ignored, [ELSEWHERE])
    alone = relabel(sample(NOTHING), seen((FACE, 0.8)))
    np.testing.assert_allclose(alone.boxes, [FACE])

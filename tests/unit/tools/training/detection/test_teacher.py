"""The teacher's answers about a composed scene, row by row, and the remaining labels."""

import numpy as np

from tools.training.detection.sample import Sample, mirrored
from tools.training.detection.scrfd import FloatArray, decode, suppress
from tools.training.detection.targets import Targets, assign, make_rows
from tools.training.detection.teacher import BEST, Answers, ask, mirror, taught

SIZE = 160
FACE = [20, 18, 60, 66]
ELSEWHERE = [100, 100, 140, 150]
CLOSE = [10, 20, 130, 150]
NOTHING: list[list[float]] = []
ROWS = make_rows(SIZE)


def points_of(boxes: FloatArray) -> FloatArray:
    """Return five points for each box, none the mirror image of another."""
    places = np.array([[0.3, 0.4], [0.7, 0.35], [0.55, 0.6], [0.35, 0.8], [0.6, 0.75]], np.float32)
    return boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])


def sample(boxes: list[list[float]], *, ignored: list[list[float]] = NOTHING) -> Sample:
    frame, hidden = (np.array(each, np.float32).reshape(-1, 4) for each in (boxes, ignored))
    return Sample(np.zeros((SIZE, SIZE, 3), np.uint8), frame, points_of(frame), hidden)


def raw(targets: Targets, scores: FloatArray) -> list[FloatArray]:
    """Return nine outputs with these rows, and zeros elsewhere."""
    total = len(ROWS.centres)
    full = [np.zeros((total, width), np.float32) for width in (1, 4, 10)]
    full[0][targets.rows, 0] = scores
    full[1][targets.rows] = targets.boxes
    full[2][targets.rows] = targets.points.reshape(-1, 10)
    cuts = np.cumsum([(SIZE // stride) ** 2 * 2 for stride in (8, 16)])
    return [part for array in full for part in np.split(array, cuts)]


class Teacher:
    """A network that sees `faces`, each with its score."""

    def __init__(self, *faces: tuple[list[float], float]) -> None:
        boxes = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
        self._outputs = raw(assign(ROWS, boxes[:0], points_of(boxes[:0]), boxes[:0]), np.zeros(0))
        for box, (_, score) in zip(boxes, faces, strict=True):
            one = assign(ROWS, box[None], points_of(box[None]), boxes[:0])
            for mine, theirs in zip(
                self._outputs, raw(one, np.full(len(one.rows), score)), strict=True
            ):
                mine += theirs

    def outputs(self, blob: FloatArray) -> list[FloatArray]:
        """Answer `blob`, which must be the picture."""
        assert blob.shape == (1, 3, SIZE, SIZE)
        return self._outputs


def test_faces_of_the_teacher_replace_labels():
    left, answers = ask(Teacher((FACE, 0.6)), sample([FACE], ignored=[FACE]))
    assert not len(left.boxes)
    assert not len(left.ignored)
    # the best row becomes sure, however low its score is
    np.testing.assert_allclose(answers.scores, BEST)
    targets = taught(ROWS, left, answers)
    np.testing.assert_allclose(targets.scores, BEST)
    np.testing.assert_array_equal(targets.weight, 1)
    seen = suppress(decode(raw(targets, targets.scores), height=SIZE, width=SIZE, threshold=0.5))
    np.testing.assert_allclose(seen.boxes, [FACE], atol=1e-4)
    np.testing.assert_allclose(seen.landmarks, points_of(seen.boxes), atol=1e-3)


def test_doubtful_faces_keep_their_score_unless_they_were_pasted():
    left, answers = ask(Teacher((FACE, 0.4), (ELSEWHERE, 0.4)), sample([FACE]))
    np.testing.assert_allclose(left.boxes, [FACE])
    np.testing.assert_allclose(answers.scores, 0.4)
    middles = ROWS.centres[answers.rows]
    assert len(middles)
    assert (np.abs(middles - [120, 125]).max(axis=1) < 30).all()


def test_missed_faces_stay_labels_except_close_ones():
    faces = [FACE, ELSEWHERE, CLOSE]
    left, answers = ask(Teacher((ELSEWHERE, 0.8)), sample(faces, ignored=[FACE]))
    np.testing.assert_allclose(left.boxes, [FACE])
    np.testing.assert_allclose(left.points, points_of(left.boxes))
    np.testing.assert_allclose(left.ignored, [FACE])
    targets = taught(ROWS, left, answers)
    labels = np.isnan(targets.scores)
    assert set(ROWS.bases[targets.rows[labels]]) == {32.0, 64.0}
    assert set(ROWS.bases[answers.rows]) == {32.0, 64.0}


def test_a_close_face_keeps_the_score_of_the_teacher():
    left, answers = ask(Teacher((CLOSE, 0.6)), sample([CLOSE]))
    assert not len(left.boxes)
    np.testing.assert_allclose(answers.scores, 0.6)


def test_rows_of_a_label_ignore_the_teacher():
    left = sample([CLOSE])
    own = assign(ROWS, left.boxes, left.points, left.ignored)
    count = len(own.rows)
    answers = Answers(
        SIZE, own.rows, np.full(count, 0.1, np.float32), own.boxes * 0, own.points * 0
    )
    targets = taught(ROWS, left, answers)
    assert np.isnan(targets.scores).all()
    np.testing.assert_array_equal(targets.boxes, own.boxes)


def test_the_teacher_also_answers_about_ignored_regions():
    left = sample(NOTHING, ignored=[FACE])
    assert not assign(ROWS, left.boxes, left.points, left.ignored).weight.all()
    _, answers = ask(Teacher((FACE, 0.9)), sample([FACE]))
    targets = taught(ROWS, left, answers)
    np.testing.assert_array_equal(targets.weight[answers.rows], 1)
    assert not targets.weight.all()


def test_mirrored_answers_equal_those_to_the_mirrored_picture():
    face = np.array([FACE], np.float32)
    _, answers = ask(Teacher((FACE, 0.9)), sample([FACE]))
    flipped = mirror(answers)
    targets = taught(ROWS, sample(NOTHING), flipped)
    found = decode(raw(targets, targets.scores), height=SIZE, width=SIZE, threshold=0.5)
    wanted = mirrored(sample([FACE]))
    assert len(found) == len(answers.rows) > 1
    np.testing.assert_allclose(found.boxes, np.repeat(wanted.boxes, len(found), 0), atol=1e-3)
    np.testing.assert_allclose(found.landmarks[0], wanted.points[0], atol=1e-3)
    edge = Answers(SIZE, np.array([0]), face[0, :1], face, points_of(face))
    assert not len(mirror(edge).rows)

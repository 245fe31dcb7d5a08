"""The teacher's outputs for a scene, row by row, as targets instead of labels.

Student and teacher have SCRFD's rows: the same cells, strides and two anchors per cell. So the
student learns each row's box and landmarks from the teacher's outputs for the same picture, and its
score as a share of the face's best one. Labels of the scene are used if the teacher detects no face
there, except for faces so near that the pipeline detects them in the close-up.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tools.training.detection.sample import MIRRORED, Sample
from tools.training.detection.scrfd import (
    STRIDES,
    Detections,
    FloatArray,
    RawDetector,
    decode,
    iou_matrix,
    suppress,
    to_blob,
)
from tools.training.detection.targets import PER_CELL, Rows, Targets, assign

FAINT = 0.03  # lower scores count as 0
SURE = 0.5  # from here on a face counts as detected; lower scores are learnt unchanged
BEST = 0.85  # target of the best row of a face, also of faces with a low teacher score
SAME_IOU = 0.4
CLOSE = 0.5  # times the canvas: the close-up detects such large faces better


@dataclass(frozen=True, slots=True)
class Answers:
    """The teacher's rows with a score, for a picture of ``size`` x ``size`` pixels.

    rows: ``[K]`` int64 in SCRFD's order; scores: ``[K]`` float32, 0-1; boxes: ``[K,4]`` float32
    distances (left, top, right, bottom) and points: ``[K,5,2]`` float32 offsets, both in strides
    from the row's centre.
    """

    size: int
    rows: npt.NDArray[np.int64]
    scores: FloatArray
    boxes: FloatArray
    points: FloatArray


def ask(teacher: RawDetector, sample: Sample) -> tuple[Sample, Answers]:
    """Run the teacher; the sample keeps only the labels of faces that it missed.

    A pasted face that the teacher misses stays a label, and its rows are dropped; if it is at least
    as large as `CLOSE`, it becomes background. Half-hidden faces are ignored unless the teacher
    detects them.
    """
    size = sample.image.shape[0]
    outputs = teacher.outputs(to_blob(sample.image))
    scores, boxes, points = (np.concatenate(outputs[i : i + 3]) for i in (0, 3, 6))
    seen = suppress(decode(outputs, height=size, width=size, threshold=SURE))
    sides = np.sqrt((sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(axis=1))
    kept = _apart(sample.boxes, seen.boxes) & (sides < CLOSE * size)
    left = replace(
        sample,
        boxes=sample.boxes[kept],
        points=sample.points[kept],
        ignored=sample.ignored[_apart(sample.ignored, seen.boxes)],
    )
    rows = np.flatnonzero(scores[:, 0] >= FAINT)
    places = decode(outputs, height=size, width=size, threshold=FAINT)  # in the order of `rows`
    about_others = _apart(places.boxes, left.boxes)
    rows, places = rows[about_others], places.select(about_others)
    return left, Answers(
        size, rows, _sharpened(places, seen, size), boxes[rows], points[rows].reshape(-1, 5, 2)
    )


def _sharpened(places: Detections, seen: Detections, size: int) -> FloatArray:
    """Scale the rows' scores so that the best row of each detected face has `BEST`.

    Faces at least as large as `CLOSE` keep their score: if low, the close-up is searched.
    """
    if not len(places) or not len(seen):
        return places.scores
    overlaps = iou_matrix(places.boxes, seen.boxes)
    near = (seen.boxes[:, 2:] - seen.boxes[:, :2]).prod(axis=1) >= (CLOSE * size) ** 2
    scores = np.where(near, BEST, seen.scores)
    best = np.where(overlaps.max(axis=1) >= SAME_IOU, scores[overlaps.argmax(axis=1)], BEST)
    return np.minimum(places.scores * BEST / best, 1).astype(np.float32)


def _apart(boxes: FloatArray, seen: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which of `boxes` are not among `seen`."""
    if not len(boxes) or not len(seen):
        return np.ones(len(boxes), bool)
    return np.asarray(iou_matrix(boxes, seen).max(axis=1) < SAME_IOU)


def mirror(answers: Answers) -> Answers:
    """Mirror the answers with their picture, left to right.

    Column c becomes column ``columns - c``; column 0 would be beyond the edge and is dropped.
    """
    rows = np.empty_like(answers.rows)
    kept = np.ones(len(rows), bool)
    first = 0
    for stride in STRIDES:
        columns = answers.size // stride
        last = first + columns * columns * PER_CELL
        here = (answers.rows >= first) & (answers.rows < last)
        cell, anchor = np.divmod(answers.rows[here] - first, PER_CELL)
        line, column = np.divmod(cell, columns)
        kept[here] = column > 0
        rows[here] = first + (line * columns + columns - column) * PER_CELL + anchor
        first = last
    left, top, right, bottom = answers.boxes.T
    boxes = np.stack([right, top, left, bottom], axis=1)
    points = answers.points[:, MIRRORED] * np.array([-1, 1], np.float32)
    return Answers(answers.size, rows[kept], answers.scores[kept], boxes[kept], points[kept])


def taught(rows: Rows, sample: Sample, answers: Answers) -> Targets:
    """Make the targets of one picture from the teacher's rows and the labels left by `ask`.

    A label's own rows use the label; all others use the teacher's outputs, also in regions that the
    sample ignores.
    """
    own = assign(rows, sample.boxes, sample.points, sample.ignored)
    free = np.ones(len(rows.centres), bool)
    free[own.rows] = False
    kept = free[answers.rows]
    theirs = answers.rows[kept]
    weight = own.weight.copy()
    weight[theirs] = 1
    return Targets(
        weight=weight,
        rows=np.concatenate([own.rows, theirs]),
        scores=np.concatenate([own.scores, answers.scores[kept]]),
        boxes=np.concatenate([own.boxes, answers.boxes[kept]]),
        points=np.concatenate([own.points, answers.points[kept]]),
    )

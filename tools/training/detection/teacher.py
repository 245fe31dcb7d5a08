"""What the teacher says of a scene, row by row, in place of labels made from the scene.

Student and teacher share SCRFD's rows: the same cells, strides and two anchors per cell. So the
student learns each row's box and landmarks as the teacher answers them for this very picture, and
its score as a share of the face's best one. Labels made from the scene stand where the teacher
sees no face, but not of faces so near that the pipeline looks at them from further away.
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

FAINT = 0.03  # scores below are nought
SURE = 0.5  # from here on the teacher sees a face; below, it doubts, which is learnt as it is
BEST = 0.85  # target of the best row of a face: keeps faces that the teacher is unsure of
SAME_IOU = 0.4
CLOSE = 0.5  # times the canvas: the pipeline's close-up sees faces as large better


@dataclass(frozen=True, slots=True)
class Answers:
    """The teacher's rows that score at all, of a picture of ``size`` x ``size`` pixels.

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
    """Ask about the sample's picture; the sample keeps only the labels that the answers lack.

    A pasted face that the teacher does not see stays a label, and the answers about it are dropped;
    one as large as `CLOSE` says is background then. Half-hidden ones are ignored unless it sees
    them.
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
    """Scale the rows' scores so that the best row of each face that is seen scores `BEST`.

    Faces as large as `CLOSE` says keep the teacher's doubt, for which the pipeline looks closer.
    """
    if not len(places) or not len(seen):
        return places.scores
    overlaps = iou_matrix(places.boxes, seen.boxes)
    near = (seen.boxes[:, 2:] - seen.boxes[:, :2]).prod(axis=1) >= (CLOSE * size) ** 2
    scores = np.where(near, BEST, seen.scores)
    best = np.where(overlaps.max(axis=1) >= SAME_IOU, scores[overlaps.argmax(axis=1)], BEST)
    return np.minimum(places.scores * BEST / best, 1).astype(np.float32)


def _apart(boxes: FloatArray, seen: FloatArray) -> npt.NDArray[np.bool_]:
    """Tell which of `boxes` are not among `seen`."""
    if not len(boxes) or not len(seen):
        return np.ones(len(boxes), bool)
    return np.asarray(iou_matrix(boxes, seen).max(axis=1) < SAME_IOU)


def mirror(answers: Answers) -> Answers:
    """Turn the answers as the picture is flipped left to right.

    Column c becomes column ``columns - c``; column 0 would lie beyond the edge and is dropped.
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
    """Targets of one picture: the teacher's rows, and the labels that `ask` has left.

    A label's rows are its own; elsewhere the teacher's word stands, also within what the sample
    ignores.
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

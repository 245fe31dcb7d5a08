"""Landmarks averaged over the rows that answer about one face.

A detector answers about a face in several cells, whose boxes overlap and whose errors differ. For
small networks the average of their landmarks is nearer to the truth than the best row's alone: the
built-in one's distance to its teacher's shrinks by a tenth on portraits. insightface takes the best
row, so a detector has to ask for it (`PROPERTY`).
"""

from typing import Final

import numpy as np
from onnx import TensorProto

from tools.importing.graph.operators import Parts

PROPERTY: Final = "aurum.landmarks"
"""Property of an ONNX file of a detector."""
AVERAGED: Final = "averaged"
"""What the property says where landmarks shall be averaged."""
NEAR: Final = 0.6
"""Overlap (intersection over union) from which a row's landmarks count, by its confidence."""

_BOX: Final = 4
_POINTS: Final = 10
_TINY: Final = 1e-9


def average_landmarks(
    parts: Parts, *, boxes: str, landmarks: str, logits: str, rows: str, least: float
) -> str:
    """Average each face's landmarks over the rows near it, weighted by confidence.

    Args:
        parts: of the network.
        boxes: [N,L,4], canvas pixels.
        landmarks: [N,L,10].
        logits: [N,L].
        rows: (image, row) of each face, INT64 [M,2].
        least: the logit above which a row counts.

    Returns:
        The name of the landmarks, [M,10]. A face that no row counts for keeps its own.
    """
    own = parts.op("GatherND", landmarks, rows)
    voters = parts.op(
        "Transpose",
        parts.op("NonZero", parts.op("Greater", logits, parts.constant([least], np.float32))),
        attributes={"perm": [1, 0]},
    )
    images = parts.op("Gather", voters, parts.constant(0, np.int64), attributes={"axis": 1})
    scores = parts.op("Sigmoid", parts.op("GatherND", logits, voters))
    # one row more that says nothing, as not every runtime can sum over none
    images = parts.join(0, images, parts.integers(-1))
    scores = parts.join(0, scores, parts.constant([0], np.float32))
    theirs = _with_nothing(parts, parts.op("GatherND", boxes, voters), _BOX)
    points = _with_nothing(parts, parts.op("GatherND", landmarks, voters), _POINTS)
    mine = parts.op("Gather", rows, parts.constant(0, np.int64), attributes={"axis": 1})
    same = parts.op("Equal", parts.reshape(mine, -1, 1), parts.reshape(images, 1, -1))
    near = parts.op("And", same, _overlapping(parts, parts.op("GatherND", boxes, rows), theirs))
    counts = parts.op("Cast", near, attributes={"to": int(TensorProto.FLOAT)})
    weights = parts.op("Mul", counts, parts.reshape(scores, 1, -1))
    total = parts.reshape(parts.sum_over(weights, 1), -1, 1)
    moved = parts.op("Sub", parts.op("MatMul", weights, points), parts.op("Mul", own, total))
    share = parts.op("Div", moved, parts.op("Max", total, parts.constant([_TINY], np.float32)))
    return parts.op("Add", own, share)


def _with_nothing(parts: Parts, rows: str, width: int) -> str:
    return parts.join(0, rows, parts.constant(np.zeros((1, width)), np.float32))


def _overlapping(parts: Parts, left: str, right: str) -> str:
    # whether boxes [M,4] and [V,4] overlap by more than NEAR: BOOL [M,V]
    first = _columns(parts, left, (-1, 1))
    second = _columns(parts, right, (1, -1))
    sides = []
    for low, high in ((0, 2), (1, 3)):
        end = parts.op("Min", first[high], second[high])
        start = parts.op("Max", first[low], second[low])
        sides.append(parts.op("Relu", parts.op("Sub", end, start)))
    shared = parts.op("Mul", *sides)
    areas = [
        parts.op("Mul", parts.op("Sub", box[2], box[0]), parts.op("Sub", box[3], box[1]))
        for box in (first, second)
    ]
    union = parts.op("Sub", parts.op("Add", *areas), shared)
    return parts.op("Greater", shared, parts.op("Mul", union, parts.constant([NEAR], np.float32)))


def _columns(parts: Parts, boxes: str, shape: tuple[int, int]) -> list[str]:
    return [
        parts.reshape(
            parts.op("Gather", boxes, parts.constant(column, np.int64), attributes={"axis": 1}),
            *shape,
        )
        for column in range(_BOX)
    ]

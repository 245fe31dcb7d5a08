"""Average landmarks over the rows that detect the same face.

A detector finds a face in several cells, with overlapping boxes and different errors. For small
networks the average of their landmarks is closer to the truth than the best row's: the built-in
detector's distance to its teacher shrinks by a tenth on portraits. insightface takes the best row,
so a detector's file enables averaging (`PROPERTY`).
"""

from typing import Final

import numpy as np
from onnx import TensorProto

from tools.importing.graph.operators import GraphBuilder

PROPERTY: Final = "aurum.landmarks"
"""Metadata property of a detector's ONNX file."""
AVERAGED: Final = "averaged"
"""Value of the property for averaged landmarks."""
NEAR: Final = 0.6
"""Overlap (intersection over union) from which a row's landmarks count, by its confidence."""

_BOX: Final = 4
_POINTS: Final = 10
_TINY: Final = 1e-9


def average_landmarks(
    builder: GraphBuilder, *, boxes: str, landmarks: str, logits: str, rows: str, least: float
) -> str:
    """Average each face's landmarks over the rows near it, weighted by confidence.

    Args:
        builder: graph builder of the network.
        boxes: [N,L,4], canvas pixels.
        landmarks: [N,L,10].
        logits: [N,L].
        rows: (image, row) of each face, INT64 [M,2].
        least: the logit above which a row counts.

    Returns:
        The name of the landmarks, [M,10]. A face without such rows keeps its own.
    """
    own = builder.op("GatherND", landmarks, rows)
    voters = builder.op(
        "Transpose",
        builder.op("NonZero", builder.op("Greater", logits, builder.constant([least], np.float32))),
        attributes={"perm": [1, 0]},
    )
    images = builder.op("Gather", voters, builder.constant(0, np.int64), attributes={"axis": 1})
    scores = builder.op("Sigmoid", builder.op("GatherND", logits, voters))
    # an extra row of zeros, as some runtimes cannot sum over zero rows
    images = builder.join(0, images, builder.integers(-1))
    scores = builder.join(0, scores, builder.constant([0], np.float32))
    theirs = _with_nothing(builder, builder.op("GatherND", boxes, voters), _BOX)
    points = _with_nothing(builder, builder.op("GatherND", landmarks, voters), _POINTS)
    mine = builder.op("Gather", rows, builder.constant(0, np.int64), attributes={"axis": 1})
    same = builder.op("Equal", builder.reshape(mine, -1, 1), builder.reshape(images, 1, -1))
    near = builder.op(
        "And", same, _overlapping(builder, builder.op("GatherND", boxes, rows), theirs)
    )
    counts = builder.op("Cast", near, attributes={"to": int(TensorProto.FLOAT)})
    weights = builder.op("Mul", counts, builder.reshape(scores, 1, -1))
    total = builder.reshape(builder.sum_over(weights, 1), -1, 1)
    moved = builder.op("Sub", builder.op("MatMul", weights, points), builder.op("Mul", own, total))
    share = builder.op(
        "Div", moved, builder.op("Max", total, builder.constant([_TINY], np.float32))
    )
    return builder.op("Add", own, share)


def _with_nothing(builder: GraphBuilder, rows: str, width: int) -> str:
    return builder.join(0, rows, builder.constant(np.zeros((1, width)), np.float32))


def _overlapping(builder: GraphBuilder, left: str, right: str) -> str:
    # whether boxes [M,4] and [V,4] overlap by more than NEAR: BOOL [M,V]
    first = _columns(builder, left, (-1, 1))
    second = _columns(builder, right, (1, -1))
    sides = []
    for low, high in ((0, 2), (1, 3)):
        end = builder.op("Min", first[high], second[high])
        start = builder.op("Max", first[low], second[low])
        sides.append(builder.op("Relu", builder.op("Sub", end, start)))
    shared = builder.op("Mul", *sides)
    areas = [
        builder.op("Mul", builder.op("Sub", box[2], box[0]), builder.op("Sub", box[3], box[1]))
        for box in (first, second)
    ]
    union = builder.op("Sub", builder.op("Add", *areas), shared)
    return builder.op(
        "Greater", shared, builder.op("Mul", union, builder.constant([NEAR], np.float32))
    )


def _columns(builder: GraphBuilder, boxes: str, shape: tuple[int, int]) -> list[str]:
    return [
        builder.reshape(
            builder.op("Gather", boxes, builder.constant(column, np.int64), attributes={"axis": 1}),
            *shape,
        )
        for column in range(_BOX)
    ]

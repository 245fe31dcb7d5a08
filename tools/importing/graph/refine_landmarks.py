"""Correct landmarks with a second, tiny network that processes each face separately.

A fast detector places landmarks coarsely: its finest cells are 8 pixels wide. A file may contain a
second network. It gets each detected face, upright and 40 pixels wide, with the detector's
landmarks, and outputs corrected ones. Its inputs `FACES` and `POINTS` have default values, and its
output is `REFINED_POINTS`: so the file still works as a detector without it.

The centre of a face's frame is halfway between the centres of box and landmarks. Its second axis
points from eyes to mouth; -1 to 1 spans `REACH` times the face's size (root of the box's area).
`tools.training.landmarks.crops` implements the same frame in NumPy.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from tools.importing.graph.operators import PREFIX, GraphBuilder

REFINED: Final = "averaged, refined"
"""Value of `average_landmarks.PROPERTY` for averaged, then refined landmarks."""
FACES: Final = "faces"
"""Input of the second network: float32 [K,3,SIDE,SIDE], (x - 127.5) / 128, RGB."""
POINTS: Final = "points"
"""Second input of that network: the landmarks [K,10] in the face's frame."""
REFINED_POINTS: Final = "refined_points"
"""Output of that network: corrected landmarks, [K,10]."""
SIDE: Final = 40
"""Edge of a face's crop in pixels."""
REACH: Final = 4 / 3
"""Edge of the crop in multiples of the face's size."""
SHORTEST: Final = 0.05
"""Distance from eyes to mouth, in sizes of the face, below which it defines no direction."""
MEAN: Final = 127.5
STD: Final = 128.0

_BOX: Final = 4
_POINTS: Final = 10


def crop_grid() -> npt.NDArray[np.float32]:
    """Pixel centres of a crop, row by row, in the face's frame: [SIDE * SIDE, 2]."""
    middles = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    grid = np.stack(np.meshgrid(middles, middles), axis=-1)
    return np.asarray(grid.reshape(-1, 2), np.float32)


def take_refiner(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Remove the second network from `graph`; returns its operators and its inputs' defaults."""
    needed = {REFINED_POINTS}
    taken: list[onnx.NodeProto] = []
    left: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        belongs = bool(needed.intersection(node.output))
        (taken if belongs else left).append(node)
        if belongs:
            needed.update(node.input)
    weights = [tensor for tensor in graph.initializer if tensor.name not in (FACES, POINTS)]
    taken, left = taken[::-1], left[::-1]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(left)
    graph.initializer.extend(weights)
    return taken


def refine_landmarks(
    builder: GraphBuilder,
    refiner: list[onnx.NodeProto],
    *,
    canvas: str,
    boxes: str,
    landmarks: str,
    rows: str,
) -> str:
    """Run the second network on each face.

    Args:
        builder: graph builder of the network.
        refiner: the operators from `take_refiner`.
        canvas: UINT8 [N,H,W,3].
        boxes: of the faces, [M,4], canvas pixels.
        landmarks: [M,10], canvas pixels.
        rows: (image, row) of each face, INT64 [M,2].

    Returns:
        The name of the landmarks, [M,10].
    """
    images = builder.op("Gather", rows, builder.constant(0, np.int64), attributes={"axis": 1})
    # an extra, empty face, as some runtimes cannot multiply or convolve zero rows
    images = builder.join(0, images, builder.integers(0))
    boxes = builder.join(0, boxes, builder.constant(np.zeros((1, _BOX)), np.float32))
    landmarks = builder.join(0, landmarks, builder.constant(np.zeros((1, _POINTS)), np.float32))
    centres, axes, halves = _frames(builder, boxes, landmarks)
    five = builder.op("Sub", builder.reshape(landmarks, -1, _POINTS // 2, 2), centres)
    back = builder.op("Transpose", axes, attributes={"perm": [0, 2, 1]})
    own = builder.op("Div", builder.op("MatMul", five, back), builder.op("Mul", halves, halves))
    _cut(builder, canvas, images=images, centres=centres, axes=axes)
    builder.reshape(own, -1, _POINTS, output=POINTS)
    for index, node in enumerate(refiner):
        # prefixed as added by surgery: it is small, and quantization leaves such operators alone
        node.name = f"{PREFIX}refiner_{index}"
    builder.graph.node.extend(refiner)
    better = builder.reshape(REFINED_POINTS, -1, _POINTS // 2, 2)
    moved = builder.op("Add", builder.op("MatMul", better, axes), centres)
    first, but_last = builder.integers(0), builder.integers(-1)
    return builder.op("Slice", builder.reshape(moved, -1, _POINTS), first, but_last, first)


def _frames(builder: GraphBuilder, boxes: str, landmarks: str) -> tuple[str, str, str]:
    # centres [M,1,2], axes [M,2,2] of the length of half a crop's edge, that length [M,1,1]
    low, high = (
        builder.op("Gather", boxes, builder.integers(*columns), attributes={"axis": 1})
        for columns in ((0, 1), (2, 3))
    )
    sides = builder.op("Sub", high, low)
    width, height = (
        builder.op("Gather", sides, builder.integers(column), attributes={"axis": 1})
        for column in (0, 1)
    )
    area = builder.op("Max", builder.op("Mul", width, height), builder.constant([1], np.float32))
    size = builder.op("Sqrt", area)
    half = builder.op("Mul", size, builder.constant([REACH / 2], np.float32))
    # sums over landmarks as products: opsets differ in how axes are passed
    mean = np.tile(np.eye(2), (5, 1)) / 5
    ways = np.repeat([-0.5, -0.5, 0, 0.5, 0.5], 2)[:, None] * np.tile(np.eye(2), (5, 1))
    middle = builder.op("Add", low, high)
    centre = builder.op(
        "Add",
        builder.op("Mul", middle, builder.constant([0.25], np.float32)),
        builder.op("MatMul", landmarks, builder.constant(mean / 2, np.float32)),
    )
    way = builder.op("MatMul", landmarks, builder.constant(ways, np.float32))
    squares = builder.op(
        "MatMul", builder.op("Mul", way, way), builder.constant([[1], [1]], np.float32)
    )
    length = builder.op("Sqrt", squares)
    short = builder.op("Mul", size, builder.constant([SHORTEST], np.float32))
    unit = builder.op("Div", way, builder.op("Max", length, builder.constant([1e-6], np.float32)))
    down = builder.op(
        "Where", builder.op("Greater", length, short), unit, builder.constant([[0, 1]], np.float32)
    )
    right = builder.op("MatMul", down, builder.constant([[0, -1], [1, 0]], np.float32))
    units = builder.join(1, builder.reshape(right, -1, 1, 2), builder.reshape(down, -1, 1, 2))
    halves = builder.reshape(half, -1, 1, 1)
    return builder.reshape(centre, -1, 1, 2), builder.op("Mul", units, halves), halves


def _cut(builder: GraphBuilder, canvas: str, *, images: str, centres: str, axes: str) -> None:
    # FACES of canvases [N,H,W,3], bilinear; the border is replicated
    spots = builder.op("MatMul", builder.constant(crop_grid(), np.float32), axes)
    # a pixel's centre is half a pixel from its edge
    places = builder.op(
        "Add", spots, builder.op("Sub", centres, builder.constant([0.5], np.float32))
    )
    height, width = builder.size(canvas, 1), builder.size(canvas, 2)
    last = builder.op("Sub", builder.join(0, width, height), builder.integers(1))
    limits = builder.op("Cast", last, attributes={"to": int(TensorProto.FLOAT)})
    inside = builder.op("Min", builder.op("Max", places, builder.constant([0], np.float32)), limits)
    floor = builder.op("Floor", inside)
    share = builder.op("Sub", inside, floor)
    first = builder.op("Cast", floor, attributes={"to": int(TensorProto.INT64)})
    # the four neighbours of each place: [M, SIDE * SIDE, 4]
    steps = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    near = builder.op("Add", builder.insert_axis(first, 2), builder.constant(steps, np.int64))
    # the smaller of two integers; `Min` supports integers only from opset 12 on
    near = builder.op("Where", builder.op("Less", near, last), near, last)
    column, line = (
        builder.op("Gather", near, builder.constant(axis, np.int64), attributes={"axis": 3})
        for axis in (0, 1)
    )
    area = builder.op("Mul", width, height)
    start = builder.reshape(builder.op("Mul", images, area), -1, 1, 1)
    index = builder.op("Add", start, builder.op("Add", builder.op("Mul", line, width), column))
    pixels = builder.op("Gather", builder.reshape(canvas, -1, 3), index, attributes={"axis": 0})
    floats = builder.op("Cast", pixels, attributes={"to": int(TensorProto.FLOAT)})
    # weights of the neighbours: share or 1 - share along each axis
    signs = builder.constant(steps * 2 - 1, np.float32)
    offsets = builder.constant(1 - steps, np.float32)
    along = builder.op("Add", builder.op("Mul", builder.insert_axis(share, 2), signs), offsets)
    across, downward = (
        builder.op("Gather", along, builder.integers(axis), attributes={"axis": 3})
        for axis in (0, 1)
    )
    weighed = builder.op("Mul", floats, builder.op("Mul", across, downward))
    crops = builder.op(
        "Mul",
        builder.op("Sub", builder.sum_over(weighed, 2), builder.constant([MEAN], np.float32)),
        builder.constant([1 / STD], np.float32),
    )
    square = builder.reshape(crops, -1, SIDE, SIDE, 3)
    builder.op("Transpose", square, attributes={"perm": [0, 3, 1, 2]}, output=FACES)

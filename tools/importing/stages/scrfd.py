"""Convert an SCRFD detector to a `face_detection` stage.

The source has one float image in and, for each stride, three flattened outputs: a score, four
distances to the box edges and ten offsets of landmarks per anchor (Guo et al., Sample and
Computation Redistribution for Efficient Face Detection, ICLR 2022). The stage takes a batch of
uint8 canvases and outputs decoded, suppressed, sorted faces.

Differences from insightface's `SCRFD.detect`: it suppresses after mapping boxes back to the image,
so its "+1" in areas is a pixel of the image and here a pixel of the canvas; and a confidence of
exactly 0.5 counts there but not here. A file may enable averaged landmarks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.errors import WeightsError
from tools.importing.dry_run import Answers, Trial, noise, require_finite, require_shape
from tools.importing.graph.average_landmarks import AVERAGED, NEAR, PROPERTY, average_landmarks
from tools.importing.graph.input import take_pixels
from tools.importing.graph.join_heads import join_convolutions
from tools.importing.graph.operators import BATCH, GraphBuilder, finish, value
from tools.importing.graph.refine_landmarks import (
    REACH,
    REFINED,
    REFINED_POINTS,
    SIDE,
    refine_landmarks,
    take_refiner,
)
from tools.importing.network import Network, describe
from tools.importing.second_look import known_second_look
from tools.importing.weights_id import make_id
from tools.registry.prepared import Prepared
from triton_python_backend.contract import (
    BOXES,
    CANVAS,
    CLOSEUP_SIZE,
    CONFIDENCE,
    DETECTION,
    DETECTOR,
    FRAME_SIZE,
    LANDMARKS,
    MAX_CANDIDATES,
    MIN_CONFIDENCE,
    NMS_IOU,
    format_id,
)

MEAN: Final = 127.5
STD: Final = 128.0

_BOX: Final = 4
_POINTS: Final = 10
_TAIL: Final = frozenset({"Sigmoid", "Reshape", "Transpose", "Identity", "Flatten", "Squeeze"})
"""Operators between a feature map and the flattened output made of it."""
_PROBE: Final = (256, 320)
"""Height and width of the run that assigns outputs to strides."""
_THRESHOLD: Final = "aurum/score_threshold"
_SAME: Final = 0.9
"""Share of values that must be equal whether a canvas runs alone or in a batch."""
_EXPECTED: Final = (
    "an SCRFD detector with landmarks: an image [1,3,H,W] in, nine outputs (scores, boxes and "
    "landmarks for three strides)"
)


@dataclass(frozen=True, slots=True)
class Level:
    """The feature maps of one stride, `[N, anchors * K, H/stride, W/stride]` each."""

    stride: int
    scores: str
    boxes: str
    landmarks: str


@dataclass(frozen=True, slots=True)
class Heads:
    """A detector's outputs: anchors per cell, and the levels from fine to coarse."""

    anchors: int
    levels: tuple[Level, ...]


def prepare(network: Network) -> Prepared:
    """Build the stage's graph and try it on one and three canvases of both sizes.

    `network.model` is changed.

    Raises:
        WeightsError: if the file is not such a detector or its stage fails the trial.
    """
    heads = find_heads(network)
    asked = network.metadata(PROPERTY)
    recipe = f"scrfd (x-{MEAN})/{STD} > {MIN_CONFIDENCE} nms {NMS_IOU}"
    if asked in (AVERAGED, REFINED):
        recipe += f" landmarks averaged {NEAR}"
    if asked == REFINED:
        recipe += f" refined {SIDE} {REACH:.3f}"
    identity = make_id(network.path.read_bytes(), recipe)
    graph = _rebuild(network, heads, identity, landmarks=asked)
    _try(graph, network.path, identity)
    strides = "/".join(str(level.stride) for level in heads.levels)
    return Prepared(
        stage=DETECTION.name,
        graph=graph,
        identity=identity,
        source=network.path,
        source_sha256=network.sha256,
        network=f"SCRFD, strides {strides}, {heads.anchors} anchors per cell",
        second_look=known_second_look(network.sha256),
    )


def find_heads(network: Network) -> Heads:
    """Identify scores, boxes and landmarks by structure: output names differ between files.

    Raises:
        WeightsError: with the expected and the actual outputs.
    """
    graph = network.model.graph
    shape = network.input_shape
    outputs = [output.name for output in graph.output]
    if network.metadata(PROPERTY) == REFINED and REFINED_POINTS in outputs:
        outputs.remove(REFINED_POINTS)
    if len(shape) != 4 or shape[1] != 3 or len(outputs) != 9:
        raise WeightsError(
            f"{network.path} is not a detector: it takes {describe(shape)} and has "
            f"{len(graph.output)} output(s); expected: {_EXPECTED}"
        )
    producers = {name: node for node in graph.node for name in node.output}
    tails = [_walk_back(output, producers) for output in outputs]
    sizes = _probe(network, [source for source, _ in tails])
    strides = sorted({stride for _, stride in sizes})
    levels = []
    anchors = 0
    for stride in strides:
        group = sorted(
            (channels, source, kinds)
            for (source, kinds), (channels, found) in zip(tails, sizes, strict=True)
            if found == stride
        )
        channels = [entry[0] for entry in group]
        anchors = anchors or channels[0]
        if channels != [anchors, _BOX * anchors, _POINTS * anchors]:
            raise WeightsError(
                f"{network.path}: stride {stride} has maps of {channels} channels; expected: "
                f"scores, boxes and landmarks in the ratio 1 : {_BOX} : {_POINTS}"
            )
        if "Sigmoid" not in group[0][2]:
            raise WeightsError(
                f"{network.path}: the scores of stride {stride} do not end in a sigmoid"
            )
        levels.append(Level(stride, *(entry[1] for entry in group)))
    return Heads(anchors, tuple(levels))


def _walk_back(name: str, producers: Mapping[str, onnx.NodeProto]) -> tuple[str, frozenset[str]]:
    kinds = set()
    while name in producers and producers[name].op_type in _TAIL:
        kinds.add(producers[name].op_type)
        name = producers[name].input[0]
    return name, frozenset(kinds)


def _probe(network: Network, maps: Sequence[str]) -> list[tuple[int, int]]:
    # runs the source with its feature maps as outputs: (channels, stride) of each
    probe = onnx.ModelProto()
    probe.CopyFrom(network.model)
    del probe.graph.output[:], probe.graph.value_info[:]
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in maps
    )
    height, width = _PROBE
    image = np.zeros((1, 3, height, width), dtype=np.float32)
    found = Trial(probe.SerializeToString(), network.path).run({network.input_name: image}, maps)
    sizes = []
    for name in maps:
        shape = found[name].shape
        if len(shape) != 4 or height % shape[2] or height * shape[3] != width * shape[2]:
            raise WeightsError(
                f"{network.path}: {name} has the shape {list(shape)} for an image of "
                f"{height} x {width}, which is not a feature map; expected: {_EXPECTED}"
            )
        sizes.append((shape[1], height // shape[2]))
    return sizes


def _rebuild(network: Network, heads: Heads, identity: int, *, landmarks: str | None) -> bytes:
    builder = GraphBuilder(network)
    refiner = take_refiner(builder.graph) if landmarks == REFINED else []
    take_pixels(builder, CANVAS, mean=MEAN, std=STD, target=network.input_name)
    join_convolutions(builder)
    logits = builder.join(1, *(_flat_scores(builder, level) for level in heads.levels))
    boxes, offered = _decode(builder, heads)
    # insightface counts a box of one pixel as one wide: so the far edges are one pixel further out
    # here (see _decode) and are moved back when few boxes are left
    chosen = builder.op(
        "NonMaxSuppression",
        boxes,
        builder.reshape(logits, 0, 1, -1),
        builder.integers(MAX_CANDIDATES),
        builder.constant([NMS_IOU], np.float32),
        builder.constant([_logit(MIN_CONFIDENCE)], np.float32, name=_THRESHOLD),
    )
    rows = builder.op("Gather", chosen, builder.integers(0, 2), attributes={"axis": 1})
    slots = _slots(builder, chosen, logits)
    confidence = builder.op("Sigmoid", builder.op("GatherND", logits, rows))
    corners = builder.op(
        "Sub", builder.op("GatherND", boxes, rows), builder.constant([0, 0, 1, 1], np.float32)
    )
    if landmarks in (AVERAGED, REFINED):
        least = _logit(MIN_CONFIDENCE)
        points = average_landmarks(
            builder, boxes=boxes, landmarks=offered, logits=logits, rows=rows, least=least
        )
    else:
        points = builder.op("GatherND", offered, rows)
    if refiner:
        points = refine_landmarks(
            builder, refiner, canvas=CANVAS, boxes=corners, landmarks=points, rows=rows
        )
    _place(builder, slots, confidence, like=logits, width=None, output=CONFIDENCE)
    _place(builder, slots, corners, like=logits, width=_BOX, output=BOXES)
    flat = _place(builder, slots, points, like=logits, width=_POINTS, output=None)
    builder.reshape(flat, 0, MAX_CANDIDATES, _POINTS // 2, 2, output=LANDMARKS)
    builder.repeat_id(identity, like=CANVAS, output=DETECTOR)
    return finish(
        network,
        inputs=[value(CANVAS, "UINT8", [BATCH, "height", "width", 3])],
        outputs=[
            value(tensor.name, tensor.dtype, [BATCH, *tensor.dims]) for tensor in DETECTION.outputs
        ],
        metadata={"aurum.stage": DETECTION.name, "aurum.id": format_id(identity)},
    )


def _logit(confidence: float) -> float:
    return math.log(confidence / (1 - confidence))


def _flat_scores(builder: GraphBuilder, level: Level) -> str:
    # [N,A,h,w] -> [N,h*w*A]
    last = builder.op("Transpose", level.scores, attributes={"perm": [0, 2, 3, 1]})
    return builder.reshape(last, 0, -1)


def _decode(builder: GraphBuilder, heads: Heads) -> tuple[str, str]:
    # boxes [N,L,4], x2 and y2 one pixel too far, and landmarks [N,L,10], in canvas pixels.
    # Computed on the feature maps, whose rows are long, then transposed.
    boxes: list[str] = []
    landmarks: list[str] = []
    for level in heads.levels:
        columns = _ramp(builder, level, axis=3)
        lines = _ramp(builder, level, axis=2)
        for source, signs, shifts, found in (
            (level.boxes, (-1, -1, 1, 1), (0, 0, 1, 1), boxes),
            (level.landmarks, (1,) * _POINTS, (0,) * _POINTS, landmarks),
        ):
            width = len(signs)
            scale = _channels(builder, np.multiply(signs, level.stride), heads.anchors)
            even = _channels(builder, np.arange(width) % 2 == 0, heads.anchors)
            odd = _channels(builder, np.arange(width) % 2 == 1, heads.anchors)
            shift = _channels(builder, np.asarray(shifts), heads.anchors)
            x = builder.op("Add", builder.op("Mul", columns, even), shift)
            centres = builder.op("Add", x, builder.op("Mul", lines, odd))
            moved = builder.op("Add", builder.op("Mul", source, scale), centres)
            last = builder.op("Transpose", moved, attributes={"perm": [0, 2, 3, 1]})
            shape = builder.join(0, builder.size(last, 0), builder.integers(-1, width))
            found.append(builder.op("Reshape", last, shape))
    return builder.join(1, *boxes), builder.join(1, *landmarks)


def _ramp(builder: GraphBuilder, level: Level, *, axis: int) -> str:
    # the anchors' coordinate along one axis of the map, in canvas pixels: [1,1,1,w] or [1,1,h,1]
    zero, one = builder.constant(0, np.int64), builder.constant(1, np.int64)
    size = builder.op("Gather", builder.op("Shape", level.scores), builder.constant(axis, np.int64))
    cells = builder.op("Range", zero, size, one)
    floats = builder.op("Cast", cells, attributes={"to": int(TensorProto.FLOAT)})
    pixels = builder.op("Mul", floats, builder.constant(level.stride, np.float32))
    return builder.reshape(pixels, *((1, 1, 1, -1) if axis == 3 else (1, 1, -1, 1)))


def _channels(builder: GraphBuilder, values: npt.ArrayLike, anchors: int) -> str:
    # one number per channel of a map, the same for each anchor: [1,A*K,1,1]
    return builder.constant(np.tile(values, anchors).reshape(1, -1, 1, 1), np.float32)


def _slots(builder: GraphBuilder, chosen: str, logits: str) -> str:
    # The place of each chosen row [M] in the output: (image, rank within the image) [M,2].
    # Rows are sorted by image, best first: a rank is the position minus that of the image's first.
    image = builder.op("Gather", chosen, builder.constant(0, np.int64), attributes={"axis": 1})
    zero, one = builder.constant(0, np.int64), builder.constant(1, np.int64)
    batch = builder.op("Gather", builder.op("Shape", logits), zero)
    images = builder.op("Range", zero, batch, one)
    belongs = builder.op("Equal", builder.reshape(image, -1, 1), builder.reshape(images, 1, -1))
    ones = builder.op("Cast", belongs, attributes={"to": int(TensorProto.FLOAT)})
    # an extra row of zeros, as some runtimes cannot sum over zero rows if no face is found
    row = builder.op(
        "Mul", builder.op("Cast", images, attributes={"to": 1}), builder.constant(0, "f4")
    )
    counts = builder.sum_over(builder.join(0, ones, builder.reshape(row, 1, -1)), 0)
    first = builder.op("CumSum", counts, builder.constant(0, np.int64), attributes={"exclusive": 1})
    first = builder.op("Cast", first, attributes={"to": int(TensorProto.INT64)})
    total = builder.op("Gather", builder.op("Shape", image), zero)
    rank = builder.op(
        "Sub", builder.op("Range", zero, total, one), builder.op("Gather", first, image)
    )
    return builder.join(1, builder.reshape(image, -1, 1), builder.reshape(rank, -1, 1))


def _place(
    builder: GraphBuilder,
    slots: str,
    rows: str,
    *,
    like: str,
    width: int | None,
    output: str | None,
) -> str:
    # rows [M] or [M,width] into zeros [N,256] or [N,256,width]
    sizes = (MAX_CANDIDATES,) if width is None else (MAX_CANDIDATES, width)
    shape = builder.join(0, builder.size(like, 0), builder.integers(*sizes))
    zeros = builder.op("Expand", builder.constant(np.zeros([1] * (1 + len(sizes))), "f4"), shape)
    return builder.op("ScatterND", zeros, slots, rows, output=output)


def _try(graph: bytes, path: Path, identity: int) -> None:
    # noise has no faces, so a copy without the threshold fills the rows
    for tried, size in ((graph, FRAME_SIZE), (_permissive(graph), CLOSEUP_SIZE)):
        trial = Trial(tried, path)
        together = _detect(trial, noise(3, size, size, 3), path)
        # sorted by logits; the sigmoid may round two adjacent ones in the wrong order
        if (np.diff(together[CONFIDENCE], axis=1) > 1e-6).any():
            raise WeightsError(f"{path}: faces are not sorted by confidence")
        if (together[DETECTOR] != identity).any():
            raise WeightsError(f"{path}: the graph does not output the id")
        for index in range(3):
            alone = _detect(trial, noise(3, size, size, 3)[index : index + 1], path)
            for name in (CONFIDENCE, BOXES, LANDMARKS):
                near = np.isclose(alone[name][0], together[name][index], rtol=1e-3, atol=1e-2)
                # rounding may swap a few rows of nearly the same confidence
                if near.mean() < _SAME:
                    raise WeightsError(f"{path}: {name} depends on the other rows of the batch")
        if tried is not graph and not (together[CONFIDENCE][:, 0] > 0).all():
            raise WeightsError(f"{path}: detects nothing even without a threshold")


def _detect(trial: Trial, canvases: npt.NDArray[np.uint8], path: Path) -> Answers:
    found = trial.run({CANVAS: canvases}, [tensor.name for tensor in DETECTION.outputs])
    for tensor in DETECTION.outputs:
        array = found[tensor.name]
        require_shape(array, (len(canvases), *tensor.dims), name=tensor.name, path=path)
        require_finite(array, name=tensor.name, path=path)
    return found


def _permissive(graph: bytes) -> bytes:
    model = onnx.load_from_string(graph)
    for tensor in model.graph.initializer:
        if tensor.name == _THRESHOLD:
            tensor.CopyFrom(numpy_helper.from_array(np.array([-1e9], np.float32), _THRESHOLD))
    return bytes(model.SerializeToString())

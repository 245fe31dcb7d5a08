"""An SCRFD detector made a `face_detection` stage.

The source has one float image in and, for each stride, three flattened outputs: a score, four
distances to the box edges and ten offsets of landmarks per anchor (Guo et al., Sample and
Computation Redistribution for Efficient Face Detection, ICLR 2022). The stage takes a batch of
uint8 canvases and answers with decoded, suppressed, sorted faces.

What differs from insightface's `SCRFD.detect`: it suppresses after mapping boxes back to the
image, so its "+1" in areas is a pixel of the image and here one of the canvas; and a confidence
of exactly 0.5 counts there and not here. A file that asks for it gets averaged landmarks.
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
from tools.importing.graph.operators import BATCH, Parts, finish, value
from tools.importing.graph.refine_landmarks import (
    REACH,
    REFINED,
    REFINED_POINTS,
    SIDE,
    refine_landmarks,
    take_refiner,
)
from tools.importing.network import Network, describe
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
"""Height and width of the run that shows which output belongs to which stride."""
_THRESHOLD: Final = "aurum/score_threshold"
_SAME: Final = 0.9
"""Share of numbers that must be the same whether a canvas runs alone or with others."""
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
    """What a detector predicts: anchors per cell, and the levels from fine to coarse."""

    anchors: int
    levels: tuple[Level, ...]


def prepare(network: Network) -> Prepared:
    """Make the stage's graph and try it on one and three canvases of both sizes.

    `network.model` is changed.

    Raises:
        WeightsError: if the file is no such detector or its stage does not work.
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
    )


def find_heads(network: Network) -> Heads:
    """Recognise scores, boxes and landmarks by structure: outputs have other names in each file.

    Raises:
        WeightsError: saying what was expected and what the file has.
    """
    graph = network.model.graph
    shape = network.input_shape
    outputs = [output.name for output in graph.output]
    if network.metadata(PROPERTY) == REFINED and REFINED_POINTS in outputs:
        outputs.remove(REFINED_POINTS)
    if len(shape) != 4 or shape[1] != 3 or len(outputs) != 9:
        raise WeightsError(
            f"{network.path} is no detector: it takes {describe(shape)} and has "
            f"{len(graph.output)} output(s); expected was {_EXPECTED}"
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
                f"{network.path}: stride {stride} has maps of {channels} channels; expected were "
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
    # runs the source as it is, its feature maps made outputs: (channels, stride) of each
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
                f"{height} x {width}, which is no feature map; expected was {_EXPECTED}"
            )
        sizes.append((shape[1], height // shape[2]))
    return sizes


def _rebuild(network: Network, heads: Heads, identity: int, *, landmarks: str | None) -> bytes:
    parts = Parts(network)
    refiner = take_refiner(parts.graph) if landmarks == REFINED else []
    take_pixels(parts, CANVAS, mean=MEAN, std=STD, target=network.input_name)
    join_convolutions(parts)
    logits = parts.join(1, *(_flat_scores(parts, level) for level in heads.levels))
    boxes, offered = _decode(parts, heads)
    # insightface counts a box of one pixel as one wide: the far edges are one pixel further out
    # here (see _decode) and are moved back once only few boxes are left
    chosen = parts.op(
        "NonMaxSuppression",
        boxes,
        parts.reshape(logits, 0, 1, -1),
        parts.integers(MAX_CANDIDATES),
        parts.constant([NMS_IOU], np.float32),
        parts.constant([_logit(MIN_CONFIDENCE)], np.float32, name=_THRESHOLD),
    )
    rows = parts.op("Gather", chosen, parts.integers(0, 2), attributes={"axis": 1})
    slots = _slots(parts, chosen, logits)
    confidence = parts.op("Sigmoid", parts.op("GatherND", logits, rows))
    corners = parts.op(
        "Sub", parts.op("GatherND", boxes, rows), parts.constant([0, 0, 1, 1], np.float32)
    )
    if landmarks in (AVERAGED, REFINED):
        least = _logit(MIN_CONFIDENCE)
        points = average_landmarks(
            parts, boxes=boxes, landmarks=offered, logits=logits, rows=rows, least=least
        )
    else:
        points = parts.op("GatherND", offered, rows)
    if refiner:
        points = refine_landmarks(
            parts, refiner, canvas=CANVAS, boxes=corners, landmarks=points, rows=rows
        )
    _place(parts, slots, confidence, like=logits, width=None, output=CONFIDENCE)
    _place(parts, slots, corners, like=logits, width=_BOX, output=BOXES)
    flat = _place(parts, slots, points, like=logits, width=_POINTS, output=None)
    parts.reshape(flat, 0, MAX_CANDIDATES, _POINTS // 2, 2, output=LANDMARKS)
    parts.repeat_id(identity, like=CANVAS, output=DETECTOR)
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


def _flat_scores(parts: Parts, level: Level) -> str:
    # [N,A,h,w] -> [N,h*w*A]
    last = parts.op("Transpose", level.scores, attributes={"perm": [0, 2, 3, 1]})
    return parts.reshape(last, 0, -1)


def _decode(parts: Parts, heads: Heads) -> tuple[str, str]:
    # boxes [N,L,4], x2 and y2 one pixel too far, and landmarks [N,L,10], in canvas pixels.
    # Done on the feature maps, where rows are long; transposed after that.
    boxes: list[str] = []
    landmarks: list[str] = []
    for level in heads.levels:
        columns = _ramp(parts, level, axis=3)
        lines = _ramp(parts, level, axis=2)
        for source, signs, shifts, found in (
            (level.boxes, (-1, -1, 1, 1), (0, 0, 1, 1), boxes),
            (level.landmarks, (1,) * _POINTS, (0,) * _POINTS, landmarks),
        ):
            width = len(signs)
            scale = _channels(parts, np.multiply(signs, level.stride), heads.anchors)
            even = _channels(parts, np.arange(width) % 2 == 0, heads.anchors)
            odd = _channels(parts, np.arange(width) % 2 == 1, heads.anchors)
            shift = _channels(parts, np.asarray(shifts), heads.anchors)
            x = parts.op("Add", parts.op("Mul", columns, even), shift)
            centres = parts.op("Add", x, parts.op("Mul", lines, odd))
            moved = parts.op("Add", parts.op("Mul", source, scale), centres)
            last = parts.op("Transpose", moved, attributes={"perm": [0, 2, 3, 1]})
            shape = parts.join(0, parts.size(last, 0), parts.integers(-1, width))
            found.append(parts.op("Reshape", last, shape))
    return parts.join(1, *boxes), parts.join(1, *landmarks)


def _ramp(parts: Parts, level: Level, *, axis: int) -> str:
    # the anchors' coordinate along one axis of the map, in canvas pixels: [1,1,1,w] or [1,1,h,1]
    zero, one = parts.constant(0, np.int64), parts.constant(1, np.int64)
    size = parts.op("Gather", parts.op("Shape", level.scores), parts.constant(axis, np.int64))
    cells = parts.op("Range", zero, size, one)
    floats = parts.op("Cast", cells, attributes={"to": int(TensorProto.FLOAT)})
    pixels = parts.op("Mul", floats, parts.constant(level.stride, np.float32))
    return parts.reshape(pixels, *((1, 1, 1, -1) if axis == 3 else (1, 1, -1, 1)))


def _channels(parts: Parts, values: npt.ArrayLike, anchors: int) -> str:
    # one number per channel of a map, the same for each anchor: [1,A*K,1,1]
    return parts.constant(np.tile(values, anchors).reshape(1, -1, 1, 1), np.float32)


def _slots(parts: Parts, chosen: str, logits: str) -> str:
    # where each chosen row [M] goes in the output: (image, rank within the image) [M,2].
    # They come image by image, best first, so a rank is a position less that of the image's first.
    image = parts.op("Gather", chosen, parts.constant(0, np.int64), attributes={"axis": 1})
    zero, one = parts.constant(0, np.int64), parts.constant(1, np.int64)
    batch = parts.op("Gather", parts.op("Shape", logits), zero)
    images = parts.op("Range", zero, batch, one)
    belongs = parts.op("Equal", parts.reshape(image, -1, 1), parts.reshape(images, 1, -1))
    ones = parts.op("Cast", belongs, attributes={"to": int(TensorProto.FLOAT)})
    # a row of zeros, as not every runtime can sum nothing where no face is found
    row = parts.op("Mul", parts.op("Cast", images, attributes={"to": 1}), parts.constant(0, "f4"))
    counts = parts.sum_over(parts.join(0, ones, parts.reshape(row, 1, -1)), 0)
    first = parts.op("CumSum", counts, parts.constant(0, np.int64), attributes={"exclusive": 1})
    first = parts.op("Cast", first, attributes={"to": int(TensorProto.INT64)})
    total = parts.op("Gather", parts.op("Shape", image), zero)
    rank = parts.op("Sub", parts.op("Range", zero, total, one), parts.op("Gather", first, image))
    return parts.join(1, parts.reshape(image, -1, 1), parts.reshape(rank, -1, 1))


def _place(
    parts: Parts, slots: str, rows: str, *, like: str, width: int | None, output: str | None
) -> str:
    # rows [M] or [M,width] into zeros [N,256] or [N,256,width]
    sizes = (MAX_CANDIDATES,) if width is None else (MAX_CANDIDATES, width)
    shape = parts.join(0, parts.size(like, 0), parts.integers(*sizes))
    zeros = parts.op("Expand", parts.constant(np.zeros([1] * (1 + len(sizes))), "f4"), shape)
    return parts.op("ScatterND", zeros, slots, rows, output=output)


def _try(graph: bytes, path: Path, identity: int) -> None:
    # noise shows no face, so a copy without the threshold is what fills the rows
    for tried, size in ((graph, FRAME_SIZE), (_permissive(graph), CLOSEUP_SIZE)):
        trial = Trial(tried, path)
        together = _detect(trial, noise(3, size, size, 3), path)
        # the order is that before the sigmoid, which may round two neighbours the wrong way
        if (np.diff(together[CONFIDENCE], axis=1) > 1e-6).any():
            raise WeightsError(f"{path}: faces do not come out sorted by confidence")
        if (together[DETECTOR] != identity).any():
            raise WeightsError(f"{path}: the id did not come out of the graph")
        for index in range(3):
            alone = _detect(trial, noise(3, size, size, 3)[index : index + 1], path)
            for name in (CONFIDENCE, BOXES, LANDMARKS):
                near = np.isclose(alone[name][0], together[name][index], rtol=1e-3, atol=1e-2)
                # rounding may swap a few rows of nearly the same confidence
                if near.mean() < _SAME:
                    raise WeightsError(f"{path}: {name} depends on the rest of the batch")
        if tried is not graph and not (together[CONFIDENCE][:, 0] > 0).all():
            raise WeightsError(f"{path}: finds nothing even without a threshold")


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

"""Networks as training leaves them, small enough to know every answer by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
LOGIT_SCALE, LOGIT_SHIFT = 20.0, -10.0
"""The score of a cell is LOGIT_SCALE * its mean normalised value + LOGIT_SHIFT."""

_WIDTH = {"s": 1, "b": 4, "k": 10}
_RING = ((0, 0), (0, 0), (1, 1), (1, 1))


Sides = Sequence[tuple[str, Sequence[str | int | None]]]
"""Names and sizes of the inputs or outputs."""


class Graph:
    """Collects the nodes and constants of a network."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: npt.ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def save(
        self,
        path: Path,
        inputs: Sides,
        outputs: Sides,
        *,
        opset: int = 11,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        taken, given = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in side]
            for side in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "source", taken, given, self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6
        )
        helper.set_model_props(model, metadata or {})
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def save_detector(
    path: Path,
    *,
    distances: npt.NDArray[Any],
    offsets: npt.NDArray[Any],
    convolution: bool = False,
    sigmoid_first: bool = False,
    wide: bool = False,
    opset: int = 11,
    order: str = "skb",
    metadata: dict[str, str] | None = None,
) -> Path:
    """Save an SCRFD whose anchors look at single cells.

    At stride 8 anchor 0 looks at red, anchor 1 at green; at the other strides they look at blue.
    Each cell predicts the same distances [A,4] and offsets [A,10], in strides. A first
    convolution, where asked for, moves the image one pixel right, to show where zeros come from.
    Where `wide`, the heads have kernels of 3 x 3, as SCRFD's do, of which only the middle counts.
    """
    graph, anchors = Graph(), len(distances)
    image = "input.1"
    if convolution:
        kernel = np.zeros((3, 3, 3, 3), np.float32)
        kernel[range(3), range(3), 1, 0] = 1
        graph.constant("kernel", kernel)
        image = graph.op("Conv", [image, "kernel"], "moved", pads=[1, 1, 1, 1])
    for stride in STRIDES:
        size = [stride, stride]
        cells = graph.op("AveragePool", [image], f"cells{stride}", kernel_shape=size, strides=size)
        looks = np.zeros((anchors, 3, 1, 1), np.float32)
        looks[range(anchors), range(anchors) if stride == 8 else 2] = LOGIT_SCALE
        if wide:
            looks = np.pad(looks, _RING)
        _head(graph, cells, f"s{stride}", looks, np.full(anchors, LOGIT_SHIFT), sigmoid_first)
        for name, values in (("b", distances), ("k", offsets)):
            nothing = np.zeros((values.size, 3, 1, 1), np.float32)
            if wide:
                nothing = np.pad(nothing, _RING)
            _head(graph, cells, f"{name}{stride}", nothing, values.ravel(), None)
    outputs = [(f"{kind}{stride}", [None, _WIDTH[kind]]) for kind in order for stride in STRIDES]
    image_size = [("input.1", [1, 3, None, None])]
    return graph.save(path, image_size, outputs, opset=opset, metadata=metadata)


def add_refiner(path: Path, *, weights: npt.NDArray[Any], own: float = 1.0) -> Path:
    """Give a saved detector a second network: landmarks times `own`, plus crop [4800] @ weights."""
    model, side = onnx.load(path), 40
    pixels = 3 * side * side
    parts = {
        "faces": np.zeros((1, 3, side, side), np.float32),
        "points": np.zeros((1, 10), np.float32),
        "refiner.weights": np.asarray(weights, np.float32).reshape(pixels, 10),
        "refiner.own": np.float32(own),
        "refiner.flat": np.array([-1, pixels]),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(values), name) for name, values in parts.items()
    )
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["faces", "refiner.flat"], ["refiner.row"]),
            helper.make_node("MatMul", ["refiner.row", "refiner.weights"], ["refiner.moves"]),
            helper.make_node("Mul", ["points", "refiner.own"], ["refiner.kept"]),
            helper.make_node("Add", ["refiner.kept", "refiner.moves"], ["refined_points"]),
        ]
    )
    sizes: Sides = (("faces", ["k", 3, side, side]), ("points", ["k", 10]))
    for name, shape in sizes:
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    model.graph.output.append(
        helper.make_tensor_value_info("refined_points", TensorProto.FLOAT, ["k", 10])
    )
    helper.set_model_props(model, {"aurum.landmarks": "averaged, refined"})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _head(
    graph: Graph,
    cells: str,
    name: str,
    weights: npt.NDArray[Any],
    bias: Any,
    sigmoid_first: bool | None,
) -> None:
    # None: no sigmoid; the width of a row is that of a score (1), box (4) or landmarks (10)
    width = _WIDTH[name[0]]
    graph.constant(f"{name}.weight", weights)
    graph.constant(f"{name}.bias", np.asarray(bias, np.float32))
    graph.constant(f"{name}.shape", np.array([-1, width]))
    inputs = [cells, f"{name}.weight", f"{name}.bias"]
    last = graph.op("Conv", inputs, f"{name}.map", pads=[weights.shape[-1] // 2] * 4)
    if sigmoid_first:
        last = graph.op("Sigmoid", [last], f"{name}.score")
    last = graph.op("Transpose", [last], f"{name}.last", perm=[2, 3, 0, 1])
    final = name if sigmoid_first is not False else f"{name}.flat"
    last = graph.op("Reshape", [last, f"{name}.shape"], final)
    if sigmoid_first is False:
        graph.op("Sigmoid", [last], name)


def save_embedder(
    path: Path, *, dimension: int = 3, fixed_batch: bool = False, named: str = "", opset: int = 11
) -> Path:
    """Save a network whose embedding is mean red, mean green, mean blue, each plus its index.

    With `fixed_batch` it flattens to the shape [1, D], as exports for one image do. `named` is a
    prefix for its first operators, by which insightface recognises MXNet's exports.
    """
    graph = Graph()
    weights = np.zeros((dimension, 3, 1, 1), np.float32)
    weights[range(dimension), np.arange(dimension) % 3] = 1
    graph.constant("weights", weights)
    graph.constant("bias", np.arange(dimension, dtype=np.float32))
    graph.constant("shape", np.array([1 if fixed_batch else -1, dimension]))
    graph.constant("one", np.float32(1))
    image = "data"
    if named:
        image = graph.op("Sub", [image, "one"], "Sub_minus")
        image = graph.op("Mul", [image, "one"], "Mul_mul")
    mapped = graph.op("Conv", [image, "weights", "bias"], "mapped")
    pooled = graph.op("GlobalAveragePool", [mapped], "pooled")
    graph.op("Reshape", [pooled, "shape"], "embedding")
    batch = 1 if fixed_batch else "n"
    return graph.save(
        path,
        [("data", [batch, 3, 112, 112])],
        [("embedding", [batch, dimension])],
        opset=opset,
    )


def save_head(
    path: Path,
    weights: npt.NDArray[Any],
    *,
    column: bool = True,
    metadata: dict[str, str] | None = None,
    batch: int | None = None,
) -> Path:
    """Save a head whose score is the embedding's product with `weights`, [N,1] or [N]."""
    graph = Graph()
    graph.constant("weights", np.asarray(weights, np.float32).reshape(-1, 1))
    graph.op("MatMul", ["embedding", "weights"], "score" if column else "product")
    if not column:
        graph.op("Squeeze", ["product"], "score", axes=[1])
    return graph.save(
        path,
        [("embedding", [batch or "n", len(weights)])],
        [("score", [batch or "n", 1] if column else [batch or "n"])],
        metadata=metadata,
    )

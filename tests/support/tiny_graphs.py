"""ONNX files of a few nodes, whose answers show how they were run."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def save_twice(path: Path, *, rows: int | str = "n") -> Path:
    """Y = 2 X; ROWS = number of rows that ran together."""
    nodes = [
        helper.make_node("Add", ["X", "X"], ["Y"]),
        helper.make_node("Shape", ["X"], ["size"], start=0, end=1),
        helper.make_node("Expand", ["size", "size"], ["sizes"]),
        helper.make_node("Unsqueeze", ["sizes", "last"], ["ROWS"]),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [rows, "d"])]
    outputs = [
        helper.make_tensor_value_info("Y", TensorProto.FLOAT, [rows, "d"]),
        helper.make_tensor_value_info("ROWS", TensorProto.INT64, [rows, 1]),
    ]
    last = helper.make_tensor("last", TensorProto.INT64, [1], [1])
    return _save(nodes, inputs, outputs, [last], path)


def save_look_up(path: Path) -> Path:
    """Y = 10, 11 or 12 for an X of 0, 1 or 2; others fail the run that they are in."""
    nodes = [helper.make_node("Gather", ["table", "X"], ["Y"], axis=0)]
    inputs = [helper.make_tensor_value_info("X", TensorProto.INT64, ["n", 1])]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["n", 1])]
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [10, 11, 12])
    return _save(nodes, inputs, outputs, [table], path)


def save_no_number(path: Path) -> Path:
    """Answer crops with embeddings that are no numbers."""
    nodes = [
        helper.make_node("Cast", ["CROPS"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("Slice", ["flat", "zero", "one", "one"], ["first"]),
        helper.make_node("Mul", ["first", "nan"], ["EMBEDDING"]),
        helper.make_node("Cast", ["first"], ["SPACE"], to=TensorProto.INT64),
    ]
    inputs = [helper.make_tensor_value_info("CROPS", TensorProto.UINT8, ["n", 112, 112, 3])]
    outputs = [
        helper.make_tensor_value_info("EMBEDDING", TensorProto.FLOAT, ["n", "d"]),
        helper.make_tensor_value_info("SPACE", TensorProto.INT64, ["n", 1]),
    ]
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("nan", TensorProto.FLOAT, [1], [float("nan")]),
    ]
    return _save(nodes, inputs, outputs, constants, path)


def save_scaled(path: Path, factor: float) -> Path:
    """Y = factor X."""
    shape = ["n", "d"]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)]
    nodes = [helper.make_node("Mul", ["X", "factor"], ["Y"])]
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    return _save(nodes, inputs, outputs, [constant], path)


def _save(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
    path: Path,
) -> Path:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path

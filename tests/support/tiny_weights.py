"""Tiny networks with the inputs and outputs of the ONNX stages: they load, and find no face."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from triton_python_backend.contract import ONNX_STAGES, Stage, Tensor

_TYPES = {
    "UINT8": TensorProto.UINT8,
    "INT64": TensorProto.INT64,
    "FP32": TensorProto.FLOAT,
}
_NUMPY = {"INT64": np.int64, "FP32": np.float32}
DIMENSION = 4


def write_tiny_weights(repository: Path) -> None:
    """Give each ONNX stage of the repository a version 1 that answers zeros."""
    for stage in ONNX_STAGES:
        path = repository / stage.name / "1" / "model.onnx"
        path.parent.mkdir(exist_ok=True)
        onnx.save(_network(stage), path)


def _network(stage: Stage) -> onnx.ModelProto:
    """Answer zeros of the right shape, one row for each row of the first input."""
    first = stage.inputs[0].name
    nodes = [
        helper.make_node("Shape", [first], ["rows"], start=0, end=1),
    ]
    initializers = []
    for output in stage.outputs:
        dims = _dims(output)
        shape, value = f"{output.name}_dims", f"{output.name}_zeros"
        size = f"{output.name}_size"
        zeros = np.zeros((1, *dims), _NUMPY[output.dtype])
        initializers += [
            numpy_helper.from_array(np.array(dims, np.int64), shape),
            numpy_helper.from_array(zeros, value),
        ]
        nodes += [
            helper.make_node("Concat", ["rows", shape], [size], axis=0),
            helper.make_node("Expand", [value, size], [output.name]),
        ]
    graph = helper.make_graph(
        nodes,
        stage.name,
        [_info(tensor) for tensor in stage.inputs],
        [_info(tensor) for tensor in stage.outputs],
        initializers,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    return model


def _dims(tensor: Tensor) -> tuple[int, ...]:
    return tuple(DIMENSION if size < 0 else size for size in tensor.dims)


def _info(tensor: Tensor) -> onnx.ValueInfoProto:
    dims = ["rows", *(None if size < 0 else size for size in tensor.dims)]
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.dtype], dims)

"""Store weights in 16 bits where that loses nothing; computation stays in 32 bits.

The file is then half as large. `Cast` converts the weights back; the runtime does so once, when it
loads the graph.
"""

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEAST: Final = 1024
"""Smallest number of values in a packed tensor: below it, the file would hardly shrink."""
_SUFFIX: Final = "/half"


def round_to_fp16(model: onnx.ModelProto) -> None:
    """Round the large float32 weights to the nearest 16-bit values.

    Raises:
        ValueError: if a weight is too large for that (65,504).
    """
    for tensor in _large(model):
        with np.errstate(over="ignore"):
            halves = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(halves).all():
            message = f"a weight of {tensor.name} is too large for 16 bits"
            raise ValueError(message)
        tensor.CopyFrom(numpy_helper.from_array(halves.astype(np.float32), tensor.name))


def pack(model: onnx.ModelProto) -> None:
    """Store the large float32 weights in 16 bits if every value fits exactly."""
    casts = []
    for tensor in _large(model):
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.array_equal(halves.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halves, name + _SUFFIX))
        casts.append(
            helper.make_node(
                "Cast", [tensor.name], [name], name=name + "/cast", to=TensorProto.FLOAT
            )
        )
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def unpack(model: onnx.ModelProto) -> None:
    """Undo `pack`: the graph is restored, and the network's own casts stay."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        packed = node.op_type == "Cast" and node.input[0] == node.output[0] + _SUFFIX
        tensor = tensors.get(node.input[0]) if packed else None
        if tensor is None:
            model.graph.node.append(node)
            continue
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))


def _large(model: onnx.ModelProto) -> list[TensorProto]:
    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= LEAST
    ]

"""Building blocks of graph surgery: add operators, declare inputs, remove unused nodes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.importing.graph import fp16_storage
from tools.importing.network import Network

BATCH: Final = "batch"
"""Name of the free batch dimension of every imported graph."""

ELEMENT_TYPES: Final[Mapping[str, int]] = {
    "UINT8": TensorProto.UINT8,
    "FP32": TensorProto.FLOAT,
    "INT64": TensorProto.INT64,
}
"""ONNX element type for each Triton data type in the ONNX stages."""

PREFIX: Final = "aurum/"
"""Prefix of all operators and constants that graph surgery adds."""

Attribute = int | float | Sequence[int]


class GraphBuilder:
    """Adds operators to the graph of a network. Methods return the name of the new tensor."""

    def __init__(self, network: Network) -> None:
        self.graph = network.model.graph
        self.opset = network.opset
        self._count = 0
        # shapes inferred for the old batch size would contradict the new one
        del self.graph.value_info[:]
        self.graph.doc_string = ""

    def constant(
        self, values: npt.ArrayLike, dtype: npt.DTypeLike, *, name: str | None = None
    ) -> str:
        """Add a constant tensor, named `name` or automatically."""
        name = name or self._name("constant")
        array = np.asarray(values, dtype=dtype)
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant INT64 vector, as shapes, axes and indices are."""
        return self.constant(values, np.int64)

    def op(
        self,
        kind: str,
        *inputs: str,
        attributes: Mapping[str, Attribute] | None = None,
        output: str | None = None,
    ) -> str:
        """Add an operator with one output, named `output` or automatically."""
        result = output or self._name(kind)
        self.graph.node.append(
            onnx.NodeProto(
                op_type=kind,
                name=result,
                input=inputs,
                output=[result],
                attribute=[
                    helper.make_attribute(key, setting)
                    for key, setting in (attributes or {}).items()
                ],
            )
        )
        return result

    def size(self, tensor: str, axis: int) -> str:
        """Return the size of one axis as an INT64 vector [1]."""
        return self.op("Gather", self.op("Shape", tensor), self.integers(axis))

    def reshape(self, tensor: str, *shape: int, output: str | None = None) -> str:
        """Reshape; 0 keeps a size, -1 is computed."""
        return self.op("Reshape", tensor, self.integers(*shape), output=output)

    def join(self, axis: int, *tensors: str) -> str:
        """Concatenate."""
        return self.op("Concat", *tensors, attributes={"axis": axis})

    def split(
        self, tensor: str, sizes: Sequence[int], *, axis: int, outputs: Sequence[str]
    ) -> None:
        """Split along one axis; opset 13 changed how sizes are passed."""
        if self.opset < 13:
            node = helper.make_node("Split", [tensor], outputs, axis=axis, split=sizes)
        else:
            node = helper.make_node("Split", [tensor, self.integers(*sizes)], outputs, axis=axis)
        node.name = self._name("split")
        self.graph.node.append(node)

    def sum_over(self, tensor: str, axis: int) -> str:
        """Sum over one axis, which is dropped; opset 13 changed how axes are passed."""
        if self.opset < 13:
            return self.op("ReduceSum", tensor, attributes={"axes": [axis], "keepdims": 0})
        return self.op("ReduceSum", tensor, self.integers(axis), attributes={"keepdims": 0})

    def repeat_id(self, value: int, *, like: str, output: str) -> str:
        """Repeat the id as INT64 [N,1], where N is the batch size of `like`."""
        shape = self.join(0, self.size(like, 0), self.integers(1))
        return self.op("Expand", self.constant([[value]], np.int64), shape, output=output)

    def insert_axis(self, tensor: str, axis: int) -> str:
        """Insert an axis of size 1; opset 13 changed how axes are passed."""
        if self.opset < 13:
            return self.op("Unsqueeze", tensor, attributes={"axes": [axis]})
        return self.op("Unsqueeze", tensor, self.integers(axis))

    @contextmanager
    def before(self) -> Iterator[list[onnx.NodeProto]]:
        """Place operators added inside before the existing ones, which are yielded."""
        old = list(self.graph.node)
        del self.graph.node[:]
        yield old
        self.graph.node.extend(old)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{PREFIX}{kind.lower()}_{self._count}"


def make_batch_free(network: Network) -> None:
    """Make the reshapes of a network exported for one image keep any batch size.

    A constant target shape whose first entry is 1 gets 0 there ("unchanged"). `finish` rewrites the
    declared sizes of inputs and outputs.
    """
    graph = network.model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    for index, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = constants[node.input[1]]
        if shape.ndim == 1 and shape.size > 1 and shape[0] == 1:
            free = shape.copy()
            free[0] = 0
            name = f"{PREFIX}free_shape_{index}"
            graph.initializer.append(numpy_helper.from_array(free, name))
            node.input[1] = name


def finish(
    network: Network,
    *,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    metadata: Mapping[str, str],
) -> bytes:
    """Declare the graph's new inputs and outputs, drop unused nodes, serialise it."""
    model, graph = network.model, network.model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    needed = {value.name for value in outputs}
    kept = []
    # operators are sorted in the order of execution
    for node in reversed(list(graph.node)):
        if needed.intersection(node.output):
            needed.update(_reads(node))
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)
    del model.metadata_props[:]
    helper.set_model_props(model, dict(metadata))
    fp16_storage.pack(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def value(name: str, data_type: str, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    """Declare an input or output; a size is a number, a name or None (free)."""
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[data_type], list(shape))


def _reads(node: onnx.NodeProto) -> set[str]:
    # the branches of an If or Loop may read what lies outside them
    names = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            names |= _reads(inner)
    return names

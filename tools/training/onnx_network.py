"""An ONNX network as a PyTorch module, so that a teacher runs on its student's device.

Supported are the operators of the teachers: convolutional networks in 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from tools.training.unfuse_batchnorm import read_graph

Attributes = dict[str, Any]


class OnnxNetwork(nn.Module):
    """Evaluates the graph of an ONNX file with one input, node by node."""

    def __init__(self, path: Path) -> None:
        """Read `path`. Raises ValueError if an operator is not supported."""
        super().__init__()
        graph = read_graph(path)
        self._constants: dict[str, Tensor] = {}
        self._weights: dict[str, str] = {}
        for index, value in enumerate(graph.initializer):
            self._hold(value.name, numpy_helper.to_array(value), f"weight{index}")
        self._nodes: list[tuple[str, list[str], str, Attributes]] = []
        for node in graph.node:
            attributes = {each.name: _value(each) for each in node.attribute}
            if node.op_type == "Constant":
                self._constants[node.output[0]] = attributes["value"]
                continue
            if node.op_type not in _KNOWN:
                raise ValueError(f"{path.name}: {node.op_type} is not supported")
            self._nodes.append((node.op_type, list(node.input), node.output[0], attributes))
        held = {value.name for value in graph.initializer}
        self._input = next(value.name for value in graph.input if value.name not in held)
        self._outputs = [value.name for value in graph.output]

    def _hold(self, name: str, array: Any, buffer: str) -> None:
        """Keep weights on the device of the module, and shapes on the CPU."""
        tensor = torch.from_numpy(array.copy())
        if tensor.is_floating_point() and tensor.numel():
            self.register_buffer(buffer, tensor)
            self._weights[name] = buffer
        else:
            self._constants[name] = tensor

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N,3,H,W] float32 -> the graph's outputs, in its order."""
        known: dict[str, Tensor] = dict(self._constants)
        known |= {name: getattr(self, buffer) for name, buffer in self._weights.items()}
        known[self._input] = images
        for kind, inputs, output, attributes in self._nodes:
            known[output] = _KNOWN[kind]([known[name] for name in inputs], attributes)
        return [known[name] for name in self._outputs]


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return torch.from_numpy(numpy_helper.to_array(value).copy())
    return value


def _conv(given: list[Tensor], said: Attributes) -> Tensor:
    images, weight, *bias = given
    top, left, bottom, right = said.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        images, top, left = functional.pad(images, (left, right, top, bottom)), 0, 0
    return functional.conv2d(
        images,
        weight,
        bias[0] if bias else None,
        said.get("strides", 1),
        (top, left),
        said.get("dilations", 1),
        said.get("group", 1),
    )


def _pool(pool: Callable[..., Tensor], given: list[Tensor], said: Attributes) -> Tensor:
    if any(said.get("pads", ())):
        raise ValueError("pooling with pads is not supported")
    ceil = bool(said.get("ceil_mode", 0))
    return pool(given[0], said["kernel_shape"], said.get("strides", 1), ceil_mode=ceil)


def _resize(given: list[Tensor], said: Attributes) -> Tensor:
    if said.get("mode") != b"nearest" or len(given) != 4:
        raise ValueError("only nearest-neighbour resizing to given sizes is supported")
    return functional.interpolate(given[0], given[3][2:].tolist(), mode="nearest")


def _reshape(given: list[Tensor], _: Attributes) -> Tensor:
    tensor, shape = given
    sizes = [size or tensor.shape[place] for place, size in enumerate(shape.flatten().tolist())]
    return tensor.reshape(sizes)


def _slice(given: list[Tensor], _: Attributes) -> Tensor:
    tensor, start, end, axis = (*given[:3], given[3])
    index = [slice(None)] * tensor.ndim
    index[int(axis)] = slice(int(start), int(end))
    return tensor[tuple(index)]


def _unsqueeze(given: list[Tensor], said: Attributes) -> Tensor:
    axes = said["axes"] if "axes" in said else given[1].tolist()
    tensor = given[0]
    for axis in sorted(axes):
        tensor = tensor.unsqueeze(axis)
    return tensor


def _clip(given: list[Tensor], said: Attributes) -> Tensor:
    low, high = given[1:] if len(given) == 3 else (said["min"], said["max"])
    return given[0].clamp(float(low), float(high))


_KNOWN: Final[dict[str, Callable[[list[Tensor], Attributes], Tensor]]] = {
    "Add": lambda given, _: given[0] + given[1],
    "AveragePool": lambda given, said: _pool(functional.avg_pool2d, given, said),
    "Clip": _clip,
    "Concat": lambda given, said: torch.cat(given, said["axis"]),
    "Conv": _conv,
    "Flatten": lambda given, said: given[0].flatten(said.get("axis", 1)),
    "Gather": lambda given, said: given[0].select(said.get("axis", 0), int(given[1])),
    "Gemm": lambda given, _: functional.linear(given[0], given[1], given[2]),
    "Identity": lambda given, _: given[0],
    "MaxPool": lambda given, said: _pool(functional.max_pool2d, given, said),
    "Mul": lambda given, _: given[0] * given[1],
    "Relu": lambda given, _: given[0].relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda given, _: torch.tensor(given[0].shape),
    "Sigmoid": lambda given, _: given[0].sigmoid(),
    "Slice": _slice,
    "Transpose": lambda given, said: given[0].permute(said["perm"]),
    "Unsqueeze": _unsqueeze,
}

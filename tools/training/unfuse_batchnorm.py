"""Restore the batch norms folded into an ONNX file's convolutions, to continue training.

An exported or imported network has its batch norms folded into its convolutions. Here each new norm
gets its convolution's statistics on pictures, and a gain and an offset that cancel them, so that
the function stays the same.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from tools.importing.graph import fp16_storage

Layers = dict[str, tuple[Tensor, Tensor]]
"""Weight and bias by the name of the exported module."""

Normed = tuple[str, nn.Module, nn.BatchNorm2d]
"""The name of a convolution, its module, and the norm after it."""


def read_graph(path: Path) -> onnx.GraphProto:
    """Read an ONNX file's graph, its weights in 32 bits."""
    model = onnx.load(str(path))
    fp16_storage.unpack(model)
    return model.graph


def read_convolutions(path: Path) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Module names of the convolutions in `path`, with their weights and biases."""
    graph = read_graph(path)
    known = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and all(name in known for name in node.input[1:3]):
            weight, bias = (torch.from_numpy(np.array(known[name])) for name in node.input[1:3])
            yield module_name(node.name), (weight, bias)


def module_name(node: str) -> str:
    """Return the module's name for the exported node ``/a/a.0/b/b.1/Conv``: ``a.0.b.1``."""
    parts = node.strip("/").split("/")[:-1]
    name = ""
    for part in parts:
        head = part.rsplit(".", 1)[0]
        # each level repeats its module list: "a" then "a.0"
        if name == head or name.endswith("." + head):
            name = name[: len(name) - len(head)] + part
        else:
            name = f"{name}.{part}" if name else part
    return name


def take(layers: Layers, name: str) -> tuple[Tensor, Tensor]:
    """Return a layer. Raises ValueError if the file has none of that name."""
    if name not in layers:
        raise ValueError(f"no layer {name} in the ONNX file: it is another network")
    return layers[name]


def normed_convolutions(model: nn.Module) -> Iterator[Normed]:
    """Convolutions followed by a batch norm, with their names."""
    for parent_name, parent in model.named_modules():
        if isinstance(parent, nn.Sequential):
            children = list(parent.named_children())
            for (name, conv), (_, norm) in pairwise(children):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    yield f"{parent_name}.{name}", conv, norm


def planar(weight: Tensor, conv: nn.Module, *, std: float) -> Tensor:
    """Convert an imported network's first layer from interleaved pixels back to planes.

    The import converts ``[O,3,k,k]`` to ``[O,1,k,3k]`` and divides it by `std`.
    """
    if weight.shape == conv.weight.shape:
        return weight
    outputs, _, kernel, _ = weight.shape
    return weight.reshape(outputs, kernel, kernel, 3).permute(0, 3, 1, 2) * std


def unfold(conv: nn.Module, norm: nn.BatchNorm2d, *, weight: Tensor, bias: Tensor) -> None:
    """Load a folded layer: until `settle` the norm is the identity plus an offset."""
    conv.weight.copy_(weight)
    norm.running_mean.zero_()  # type: ignore[union-attr]
    norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
    norm.weight.fill_(1)
    norm.bias.copy_(bias)


def settle(model: nn.Module, pairs: Sequence[Normed], images: Tensor) -> None:
    """Give each norm its convolution's statistics on `images`; the function stays the same."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(conv: nn.Module, _: Any, output: Tensor) -> None:
        seen[conv] = (output.mean(dim=(0, 2, 3)), output.var(dim=(0, 2, 3)))

    hooks = [conv.register_forward_hook(note) for _, conv, _ in pairs]
    model.eval()
    model(images)
    for hook in hooks:
        hook.remove()
    for _, conv, norm in pairs:
        mean, variance = seen[conv]
        # a channel that never changes would make the norm's gain meaningless
        variance = variance.clamp(min=1e-8)
        # weights get the norm of random initial ones: learning rates are relative to it
        length = conv.weight.norm()
        wanted = (conv.weight.numel() / (3 * conv.weight[0].numel())) ** 0.5
        scale = wanted / length
        conv.weight.mul_(scale)
        norm.running_mean.copy_(mean * scale)  # type: ignore[union-attr]
        norm.running_var.copy_(variance * scale**2)  # type: ignore[union-attr]
        norm.weight.copy_((variance * scale**2 + norm.eps).sqrt() / scale)
        norm.bias.add_(mean)

"""A trained detector taken up again from its ONNX file, when its checkpoint is gone.

An exported or imported network has its batch norms folded into its convolutions. They are
unfolded here: each norm gets the statistics that its convolution shows on composed scenes, and a
gain and an offset that undo them, so that the function is the same and training can go on.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from tools.training.detection_net import LiteDetector, NetConfig

PIXEL_SCALE = 128.0
"""What the importer has divided the first layer's weights by."""

KINDS = 3
"""A head's last layer is exported in three parts: scores, distances, landmarks."""


def read_detector(path: Path, images: Tensor) -> LiteDetector:
    """Build the detector whose weights ONNX file `path` holds (raw or imported), ready to infer.

    images: ``[B,3,H,W]`` float32 in -1..1, on which the norms' statistics are taken. Raises
    ValueError where a layer is missing.
    """
    layers = dict(read_convolutions(path))
    model = LiteDetector(read_config(layers))
    pairs = list(normed_convolutions(model))
    with torch.no_grad():
        for name, conv, norm in pairs:
            weight, bias = take(layers, name)
            unfold(conv, norm, weight=reordered(weight, conv), bias=bias)
        for level, head in enumerate(model.heads):
            parts = [take(layers, f"heads.{level}.parts.{kind}") for kind in range(KINDS)]
            head.out.weight.copy_(torch.cat([weight for weight, _ in parts]))  # type: ignore[union-attr, arg-type]
            head.out.bias.copy_(torch.cat([bias for _, bias in parts]))  # type: ignore[union-attr, arg-type]
        settle(model, pairs, images)
    return model


def read_config(layers: dict[str, tuple[Tensor, Tensor]]) -> NetConfig:
    """Tell widths and depths by the layers' shapes. Raises ValueError where one is missing."""

    def width(name: str) -> int:
        return len(take(layers, name)[0])

    def first(stage: int) -> Tensor:
        dense = f"stages.{stage}.1.body.0"
        return take(layers, dense if dense in layers else f"{dense}.0")[0]

    blocks = [{name.split(".")[2] for name in layers if f"stages.{i}." in name} for i in range(3)]
    shallow, middle, deep = (first(stage) for stage in range(3))
    return NetConfig(
        stem=width("stem.0"),
        stem_kernel=take(layers, "stem.0")[0].shape[2],
        widths=(width("stages.0.0.0"), width("stages.1.0.0"), width("stages.2.0.0")),
        blocks=(len(blocks[0]) - 1, len(blocks[1]) - 1, len(blocks[2]) - 1),
        neck=width("lateral.0.0"),
        dense=(shallow.shape[1] > 1, middle.shape[1] > 1, deep.shape[1] > 1),
        kernel=shallow.shape[2],
    )


def read_convolutions(path: Path) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Module names of the convolutions in `path`, with their weights and biases."""
    graph = onnx.load(str(path)).graph
    known = {value.name: numpy_helper.to_array(value) for value in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and all(name in known for name in node.input[1:3]):
            weight, bias = (torch.from_numpy(np.array(known[name])) for name in node.input[1:3])
            yield module_name(node.name), (weight, bias)


def module_name(node: str) -> str:
    """Name the module that exported the node ``/a/a.0/b/b.1/Conv``: ``a.0.b.1``."""
    parts = node.strip("/").split("/")[:-1]
    name = ""
    for part in parts:
        head = part.rsplit(".", 1)[0]
        # each folder repeats the module list it lies in: "a" then "a.0"
        if name == head or name.endswith("." + head):
            name = name[: len(name) - len(head)] + part
        else:
            name = f"{name}.{part}" if name else part
    return name


def take(layers: dict[str, tuple[Tensor, Tensor]], name: str) -> tuple[Tensor, Tensor]:
    """Look a layer up. Raises ValueError where the file has none of that name."""
    if name not in layers:
        raise ValueError(f"no layer {name} in the ONNX file, which is another network")
    return layers[name]


def normed_convolutions(
    model: nn.Module,
) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions followed by a batch norm, with their names."""
    for parent_name, parent in model.named_modules():
        if isinstance(parent, nn.Sequential):
            children = list(parent.named_children())
            for (name, conv), (_, norm) in pairwise(children):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    yield f"{parent_name}.{name}", conv, norm


def reordered(weight: Tensor, conv: nn.Conv2d) -> Tensor:
    """Bring an imported first layer ``[O,1,k,3k]`` (pixels of bytes) back to ``[O,3,k,k]``."""
    if weight.shape == conv.weight.shape:
        return weight
    outputs, _, kernel, _ = weight.shape
    return weight.reshape(outputs, kernel, kernel, 3).permute(0, 3, 1, 2) * PIXEL_SCALE


def unfold(conv: nn.Conv2d, norm: nn.BatchNorm2d, *, weight: Tensor, bias: Tensor) -> None:
    """Load a folded layer: the norm is the identity but for its offset, until `settle`."""
    conv.weight.copy_(weight)
    norm.running_mean.zero_()  # type: ignore[union-attr]
    norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
    norm.weight.fill_(1)
    norm.bias.copy_(bias)


def settle(
    model: nn.Module,
    pairs: list[tuple[str, nn.Conv2d, nn.BatchNorm2d]],
    images: Tensor,
) -> None:
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
        # weights as long as at a random start: rates are told relative to that
        length = conv.weight.norm()
        wanted = (conv.weight.numel() / (3 * conv.weight[0].numel())) ** 0.5
        scale = wanted / length
        conv.weight.mul_(scale)
        norm.running_mean.copy_(mean * scale)  # type: ignore[union-attr]
        norm.running_var.copy_(variance * scale**2)  # type: ignore[union-attr]
        norm.weight.copy_((variance * scale**2 + norm.eps).sqrt() / scale)
        norm.bias.add_(mean)

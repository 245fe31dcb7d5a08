"""The embedding student: a small residual network of dense convolutions.

Dense convolutions and 1x1 bottlenecks run near the CPU's peak, in training and in onnxruntime;
depthwise ones do not. Most of the computation is at 28, 14 and 7 px. A global
depthwise convolution (MobileFaceNet, Chen et al. 2018) gives every position of the face its own
weight; its kernel is resized to the feature map, so that training can begin at low resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.training.common import store_as_fp16

_BEFORE = 2
"""Layers of a student's body before its stages."""
_SHRINKING = 2
"""Layers of a stage before its blocks."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths and depths of the student."""

    stem: int = 16
    widths: tuple[int, int, int] = (64, 128, 224)
    """Channels at 28, 14 and 7 px (of a 112 px view)."""
    depths: tuple[int, int, int] = (1, 3, 5)
    """Residual blocks at each."""
    features: int = 512
    dimension: int = 128


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            _convolution(width, half, 1),
            nn.ReLU(inplace=True),
            _convolution(half, half, 3),
            nn.ReLU(inplace=True),
            _convolution(half, width, 1),
        )
        # A block starts as the identity, which lets a deep net learn from the first step.
        nn.init.zeros_(self.body[-1][1].weight)

    def forward(self, features: Tensor) -> Tensor:
        """[N,C,h,w] -> the same shape."""
        return functional.relu(features + self.body(features))


class GlobalDepthwise(nn.Module):
    """One weight per channel and position of a 7x7 map: [N,C,h,w] -> [N,C,1,1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, 7, 7) / 7)

    def forward(self, features: Tensor) -> Tensor:
        """[N,C,h,w] -> [N,C,1,1]."""
        kernel = self.weight
        side = features.shape[-1]
        if side != 7:
            kernel = functional.interpolate(kernel, (side, side), mode="bilinear") * (7 / side) ** 2
        return functional.conv2d(features, kernel, groups=kernel.shape[0])


class Student(nn.Module):
    """Views [N,3,S,S] float32 RGB in -1..1 -> raw embeddings [N,dimension]; inference: S = 112."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or Shape()
        layers: list[nn.Module] = [
            _convolution(3, shape.stem, 3, stride=2),
            nn.ReLU(inplace=True),
            _convolution(shape.stem, shape.widths[0], 3, stride=2),
            nn.ReLU(inplace=True),
        ]
        for stage, (width, depth) in enumerate(zip(shape.widths, shape.depths, strict=True)):
            if stage:
                before = shape.widths[stage - 1]
                layers += [_convolution(before, width, 3, stride=2), nn.ReLU(inplace=True)]
            layers += [Bottleneck(width) for _ in range(depth)]
        self.body = nn.Sequential(*layers)
        self.widen = nn.Sequential(
            _convolution(shape.widths[2], shape.features, 1), nn.ReLU(inplace=True)
        )
        self.gather = GlobalDepthwise(shape.features)
        self.settle = nn.BatchNorm2d(shape.features)
        self.project = nn.Linear(shape.features, shape.dimension)

    def forward(self, views: Tensor) -> Tensor:
        """[N,3,S,S] -> [N,dimension]."""
        gathered = self.gather(self.widen(self.body(views)))
        embedding: Tensor = self.project(self.settle(gathered).flatten(1))
        return embedding


def role(student: Student, name: str) -> str:
    """Name a module of the student's body by stage and block, independent of the depths."""
    _, place, *rest = [*name.split("."), "", ""]
    if not name.startswith("body.") or int(place) < _BEFORE:
        return name
    within = int(place) - _BEFORE
    stage = 0
    while within >= _SHRINKING + student.shape.depths[stage]:
        within -= _SHRINKING + student.shape.depths[stage]
        stage += 1
    return ".".join([f"stage {stage}, layer {within}", *rest])


class Mirrored(nn.Module):
    """The sum of the embeddings of a view and of its mirror image, as one graph."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, views: Tensor) -> Tensor:
        """[N,3,S,S] -> [N,dimension], sum of two unit vectors."""
        both = self.student(torch.cat([views, torch.flip(views, [3])]))
        unit = functional.normalize(both)
        halves = unit.reshape(2, -1, unit.shape[1])
        return halves.sum(0)


def export_student(student: Student, path: Path, *, mirrored: bool) -> None:
    """Writes raw ONNX: `input` [N,3,112,112] float32 -> `embeddings` [N,D].

    Batch norms are folded, the large weights kept in 16 bits.
    """
    network: nn.Module = Mirrored(student) if mirrored else student
    network = network.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 112, 112),),
        str(path),
        input_names=["input"],
        output_names=["embeddings"],
        dynamic_axes={"input": {0: "batch"}, "embeddings": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    store_as_fp16(path)

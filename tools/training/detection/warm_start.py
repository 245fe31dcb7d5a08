"""Load a trained detector from its ONNX file, if its checkpoint is lost."""

from pathlib import Path

import torch
from torch import Tensor

from tools.training.detection.network import LiteDetector, NetConfig
from tools.training.unfuse_batchnorm import (
    Layers,
    normed_convolutions,
    planar,
    read_convolutions,
    settle,
    take,
    unfold,
)

STD = 128.0
"""Divisor of the pixels."""

KINDS = 3
"""Exported parts of a head's last layer: scores, distances, landmarks."""


def read_detector(path: Path, images: Tensor) -> LiteDetector:
    """Build the detector from the weights in the ONNX file `path` (raw or imported).

    images: ``[B,3,H,W]`` float32 in -1..1, from which batch norms take their statistics. Raises
    ValueError if a layer is missing.
    """
    layers = dict(read_convolutions(path))
    model = LiteDetector(read_config(layers))
    pairs = list(normed_convolutions(model))
    with torch.no_grad():
        for name, conv, norm in pairs:
            weight, bias = take(layers, name)
            unfold(conv, norm, weight=planar(weight, conv, std=STD), bias=bias)
        for level, head in enumerate(model.heads):
            parts = [take(layers, f"heads.{level}.parts.{kind}") for kind in range(KINDS)]
            head.out.weight.copy_(torch.cat([weight for weight, _ in parts]))  # type: ignore[union-attr, arg-type]
            head.out.bias.copy_(torch.cat([bias for _, bias in parts]))  # type: ignore[union-attr, arg-type]
        settle(model, pairs, images)
    return model


def read_config(layers: Layers) -> NetConfig:
    """Derive widths and depths from the layers' shapes. Raises ValueError if one is missing."""

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

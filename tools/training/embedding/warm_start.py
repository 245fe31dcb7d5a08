"""Load a trained embedder from its ONNX file, if its checkpoint is lost."""

from pathlib import Path

import torch
from onnx import numpy_helper
from torch import Tensor

from tools.training.embedding.network import Shape, Student
from tools.training.unfuse_batchnorm import (
    Layers,
    Normed,
    normed_convolutions,
    planar,
    read_convolutions,
    read_graph,
    settle,
    take,
    unfold,
)

STD = 127.5
"""Divisor of the pixels."""


def read_student(path: Path, views: Tensor) -> Student:
    """Build the student from the weights in the ONNX file `path` (raw or imported).

    views: ``[N,3,112,112]`` float32 in -1..1, at least two, from which batch norms take their
    statistics. Raises ValueError if a layer is missing.
    """
    # a student that adds its mirrored view is nested one level deeper
    layers = {name.removeprefix("student."): each for name, each in read_convolutions(path)}
    weight, bias = _read_projection(path)
    student = Student(_read_shape(layers, dimension=len(weight)))
    pairs: list[Normed] = [
        *normed_convolutions(student),
        ("gather", student.gather, student.settle),
    ]
    with torch.no_grad():
        for name, conv, norm in pairs:
            each = take(layers, name)
            unfold(conv, norm, weight=planar(each[0], conv, std=STD), bias=each[1])
        student.project.weight.copy_(weight)
        student.project.bias.copy_(bias)
        settle(student, pairs, views)
    return student


def _read_shape(layers: Layers, *, dimension: int) -> Shape:
    """Derive widths and depths from the layers' shapes; residual blocks keep the map's size."""
    widths, depths, place = [len(take(layers, "body.2.0")[0])], [0], 4
    while True:
        if f"body.{place}.body.0.0" in layers:
            depths[-1] += 1
            place += 1
        elif f"body.{place}.0" in layers:
            widths.append(len(layers[f"body.{place}.0"][0]))
            depths.append(0)
            place += 2
        else:
            break
    if len(widths) != 3:
        raise ValueError(f"{len(widths)} sizes of maps in the ONNX file: it is another network")
    return Shape(
        stem=len(take(layers, "body.0.0")[0]),
        widths=(widths[0], widths[1], widths[2]),
        depths=(depths[0], depths[1], depths[2]),
        features=len(take(layers, "widen.0.0")[0]),
        dimension=dimension,
    )


def _read_projection(path: Path) -> tuple[Tensor, Tensor]:
    """Weight ``[D,F]`` and bias ``[D]`` of the last layer."""
    graph = read_graph(path)
    known = {value.name: value for value in graph.initializer}
    for node in graph.node:
        if node.op_type == "Gemm":
            weight, bias = (numpy_helper.to_array(known[name]) for name in node.input[1:3])
            return torch.tensor(weight), torch.tensor(bias)
    raise ValueError("no projection in the ONNX file: it is another network")

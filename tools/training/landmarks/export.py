"""Add the refiner to the detector's raw ONNX file."""

import io
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import compose, numpy_helper

from tools.importing.graph import fp16_storage
from tools.importing.graph.average_landmarks import PROPERTY
from tools.importing.graph.refine_landmarks import (
    FACES,
    POINTS,
    REFINED,
    REFINED_POINTS,
    SIDE,
    take_refiner,
)
from tools.training.detection.export import OPSET
from tools.training.landmarks.network import BothWays, Refiner

_PREFIX = "refiner/"


def join(detector: Path, refiner: Refiner, path: Path) -> None:
    """Write the raw detector of the file `detector`, with `refiner` added, to `path`.

    The refiner runs on each face and its mirror image. It replaces a refiner of the file. Weights
    are stored in 16 bits.
    """
    whole = onnx.load(str(detector))
    fp16_storage.unpack(whole)
    gone = {name for node in take_refiner(whole.graph) for name in node.input}
    weights = [tensor for tensor in whole.graph.initializer if tensor.name not in gone]
    del whole.graph.initializer[:]
    whole.graph.initializer.extend(weights)
    for values in (whole.graph.input, whole.graph.output):
        left = [value for value in values if value.name not in (FACES, POINTS, REFINED_POINTS)]
        del values[:]
        values.extend(left)
    second = _as_onnx(refiner)
    whole.graph.node.extend(second.graph.node)
    whole.graph.initializer.extend(second.graph.initializer)
    whole.graph.input.extend(second.graph.input)
    whole.graph.output.extend(second.graph.output)
    fp16_storage.round_to_fp16(whole)
    fp16_storage.pack(whole)
    for name, shape in ((FACES, (1, 3, SIDE, SIDE)), (POINTS, (1, 10))):
        # a default value, so that the first network runs without the second
        nothing = numpy_helper.from_array(np.zeros(shape, np.float32), name)
        whole.graph.initializer.append(nothing)
    onnx.helper.set_model_props(whole, {PROPERTY: REFINED})
    onnx.checker.check_model(whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(whole, str(path))


def _as_onnx(refiner: Refiner) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(
        BothWays(refiner).eval(),
        (torch.zeros(2, 3, SIDE, SIDE), torch.zeros(2, 10)),
        buffer,
        input_names=[FACES, POINTS],
        output_names=[REFINED_POINTS],
        dynamic_axes={name: {0: "faces"} for name in (FACES, POINTS, REFINED_POINTS)},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load_from_string(buffer.getvalue())
    # layers of both networks may have the same names
    return compose.add_prefix(model, _PREFIX, rename_inputs=False, rename_outputs=False)

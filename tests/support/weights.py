"""Where the tests find real weights, and a head for them."""

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gateway.settings import CHECKOUT

_NEEDED = ("det_500m.onnx", "mobilefacenet_arcface_128.onnx")


def models_folder() -> Path:
    """Folder of real weights: `AURUM_TEST_MODELS`, else beside the checkout; may be missing."""
    return Path(os.environ.get("AURUM_TEST_MODELS") or CHECKOUT.parent / "shared" / "models")


def why_no_weights() -> str:
    """Why tests with real weights cannot run; empty if they can."""
    folder = models_folder()
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if not missing:
        return ""
    return f"{' and '.join(missing)} not in {folder} (set AURUM_TEST_MODELS to their folder)"


def write_linear_head(path: Path, *, width: int, seed: int = 7) -> Path:
    """Write a head that scores unit vectors [N,width] around 5; it rates nothing real."""
    slope = np.random.default_rng(seed).normal(size=(width, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["embedding", "slope"], ["product"]),
            helper.make_node("Add", ["product", "five"], ["score"]),
        ],
        "linear",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])],
        [
            numpy_helper.from_array(slope, "slope"),
            numpy_helper.from_array(np.array([5], np.float32), "five"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path

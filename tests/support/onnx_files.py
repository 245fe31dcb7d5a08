"""What test files say of ONNX files."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from tools.importing.graph.fp16_storage import LEAST


def large_weights(path: Path) -> set[int]:
    """ONNX's element types of the large weights in a file."""
    tensors = onnx.load(path).graph.initializer
    return {tensor.data_type for tensor in tensors if np.prod(tensor.dims) >= LEAST}


HALVES = {TensorProto.FLOAT16}

"""Trial runs of networks before they are placed, with clear error messages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from tools.errors import WeightsError

Array = npt.NDArray[np.float32] | npt.NDArray[np.int64] | npt.NDArray[np.uint8]
Arrays = Mapping[str, Array]
Answers = dict[str, npt.NDArray[np.float32]]
"""Outputs by name; typed as float; ids are INT64 at run time."""

_FAILURES: Final = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.RuntimeException,
)
_QUIET: Final = 4
"""onnxruntime's log level for fatal errors only; errors are raised."""


class Trial:
    """A loaded graph that runs on generated input."""

    def __init__(self, graph: bytes, path: Path) -> None:
        """Load the graph made from `path`; raises WeightsError if onnxruntime rejects it."""
        self._path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        try:
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except _FAILURES as error:
            raise WeightsError(f"{path}: onnxruntime cannot load it: {_first(error)}") from error

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> Answers:
        """Run once; raises WeightsError naming the input's shape if it fails."""
        try:
            results = self._session.run(list(outputs), dict(inputs))
        except _FAILURES as error:
            shapes = ", ".join(str(list(array.shape)) for array in inputs.values())
            message = f"{self._path}: fails on input of shape {shapes}: {_first(error)}"
            raise WeightsError(message) from error
        return dict(zip(outputs, results, strict=True))


def require_shape(array: Array, shape: Sequence[int], *, name: str, path: Path) -> None:
    """Raise WeightsError unless an output has this shape."""
    if array.shape != tuple(shape):
        raise WeightsError(
            f"{path}: {name} came out as {list(array.shape)}, {list(shape)} was expected"
        )


def require_finite(array: Array, *, name: str, path: Path) -> None:
    """Raise WeightsError if an output holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise WeightsError(f"{path}: {name} holds values that are not finite")


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    """Random pixels, the same in each run."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

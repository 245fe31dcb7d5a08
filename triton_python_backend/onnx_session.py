"""An ONNX graph as its `config.pbtxt` describes it: loading, checks and batched runs.

It follows Triton's native ONNX Runtime backend (github.com/triton-inference-server/
onnxruntime_backend), so that one `config.pbtxt` means the same in both.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

Arrays = dict[str, npt.NDArray[Any]]
Config = Mapping[str, Any]

_TYPES: Final = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_INT8": "tensor(int8)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
}

# the native backend's meaning of `optimization { graph { level } }`
_LEVELS: Final = {
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class ConfigMismatchError(ValueError):
    """Config and graph differ; the text names the tensor."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request's part of a run: its inputs by name and its requested outputs."""

    inputs: Arrays
    outputs: Sequence[str]

    @property
    def rows(self) -> int:
        """Length of the first axis of its inputs."""
        return _rows(self.inputs)


class OnnxSession:
    """A graph loaded as its `config.pbtxt` says."""

    def __init__(self, config: Config, model: Path, *, gpu: int | None = None) -> None:
        """Load `model`.

        Args:
            config: the model configuration as Triton gives it (JSON names of the protobuf).
            model: the ONNX file.
            gpu: device id, or None for the CPU.

        Raises:
            ConfigMismatchError: if names, types or dims differ from the graph's.

        """
        self.batches = int(config.get("max_batch_size", 0)) > 0
        self.rows_per_run = _number(config, "rows_per_run", 0)
        """0: as many as come."""
        providers: list[Any] = ["CPUExecutionProvider"]
        if gpu is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
        self._session = onnxruntime.InferenceSession(
            str(model), session_options(config), providers=providers
        )
        _check(config.get("input", ()), self._session.get_inputs(), batches=self.batches)
        _check(config.get("output", ()), self._session.get_outputs(), batches=self.batches)
        named = {entry["name"] for entry in config.get("input", ())}
        for node in self._session.get_inputs():
            if node.name not in named:
                raise ConfigMismatchError(f"the graph's input {node.name} is not in the config")

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata properties of the file."""
        found: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    def width(self, name: str) -> int | None:
        """Size of an input's last axis; None if it is free."""
        shapes = [node.shape for node in self._session.get_inputs() if node.name == name]
        last = shapes[0][-1] if shapes and shapes[0] else None
        return last if isinstance(last, int) else None

    def run(self, calls: Sequence[Call]) -> list[Arrays | Exception]:
        """Run the calls, joined into batches if the model batches.

        No run has more rows than parameter `rows_per_run` (an addition to the native backend): once
        a row's activations fill a core's cache, larger runs are slower. If a joined run fails, each
        of its calls runs alone, so that only the bad ones fail.
        """
        if not self.batches:
            return [self._run_alone(call) for call in calls]
        return [answer for group in self._groups(calls) for answer in self._run_group(group)]

    def _groups(self, calls: Sequence[Call]) -> Iterator[list[Call]]:
        group: list[Call] = []
        rows = 0
        for call in calls:
            if group and rows + call.rows > (self.rows_per_run or sys.maxsize):
                yield group
                group, rows = [], 0
            group.append(call)
            rows += call.rows
        if group:
            yield group

    def _run_group(self, calls: Sequence[Call]) -> list[Arrays | Exception]:
        if len(calls) > 1:
            try:
                return list(self._run_joined(calls))
            except Exception:  # noqa: BLE001, S110 - each call runs alone and reports its own error
                pass
        return [self._run_alone(call) for call in calls]

    def _run_alone(self, call: Call) -> Arrays | Exception:
        try:
            return dict(zip(call.outputs, self._run(call.outputs, call.inputs), strict=True))
        except Exception as error:  # noqa: BLE001 - becomes this request's own error
            return error

    def _run(self, wanted: Sequence[str], inputs: Arrays) -> list[npt.NDArray[Any]]:
        rows, most = _rows(inputs), self.rows_per_run or sys.maxsize
        if not self.batches or rows <= most:
            return list(self._session.run(wanted, inputs))
        parts = [
            self._session.run(wanted, {name: each[at : at + most] for name, each in inputs.items()})
            for at in range(0, rows, most)
        ]
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _run_joined(self, calls: Sequence[Call]) -> list[Arrays]:
        joined = {
            name: np.concatenate([call.inputs[name] for call in calls]) for name in calls[0].inputs
        }
        sizes = [call.rows for call in calls]
        wanted = sorted({name for call in calls for name in call.outputs})
        ends = np.cumsum(sizes)[:-1]
        parts = {}
        for name, array in zip(wanted, self._run(wanted, joined), strict=True):
            if len(array) != sum(sizes):
                message = f"output {name} has {len(array)} rows for a batch of {sum(sizes)}"
                raise ConfigMismatchError(message)
            parts[name] = np.split(array, ends)
        return [{name: parts[name][row] for name in call.outputs} for row, call in enumerate(calls)]


def session_options(config: Config) -> onnxruntime.SessionOptions:
    """Options from `optimization` and `parameters`, named as the native backend names them."""
    options = onnxruntime.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = _LEVELS.get(
        level, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    options.intra_op_num_threads = _number(config, "intra_op_thread_count", 0)
    options.inter_op_num_threads = _number(config, "inter_op_thread_count", 0)
    if _number(config, "execution_mode", 0) == 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = bool(_number(config, "enable_mem_arena", 1))
    options.enable_mem_pattern = bool(_number(config, "enable_mem_pattern", 1))
    return options


def _rows(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _number(config: Config, parameter: str, default: int) -> int:
    entry = config.get("parameters", {}).get(parameter)
    if entry is None:
        return default
    try:
        return int(entry["string_value"])
    except ValueError as error:
        message = f"parameter {parameter}: {entry['string_value']!r} is no whole number"
        raise ConfigMismatchError(message) from error


def _check(entries: Sequence[Config], nodes: Sequence[Any], *, batches: bool) -> None:
    graph = {node.name: node for node in nodes}
    for entry in entries:
        name = entry["name"]
        if name not in graph:
            message = f"{name} is not in the graph, which has {', '.join(sorted(graph))}"
            raise ConfigMismatchError(message)
        if entry.get("reshape"):
            raise ConfigMismatchError(f"{name}: reshape is not supported by this backend")
        node = graph[name]
        if _TYPES.get(entry["data_type"]) != node.type:
            message = f"{name} is {node.type} in the graph, {entry['data_type']} in the config"
            raise ConfigMismatchError(message)
        dims = [int(dim) for dim in entry["dims"]]
        shape = [dim if isinstance(dim, int) else -1 for dim in node.shape]
        expected = [-1, *dims] if batches else dims
        fits = len(shape) == len(expected) and all(
            -1 in (here, there) or here == there
            for here, there in zip(shape, expected, strict=True)
        )
        if not fits or (batches and shape[0] != -1):
            message = f"{name} has shape {shape} in the graph, {expected} in the config"
            raise ConfigMismatchError(message)

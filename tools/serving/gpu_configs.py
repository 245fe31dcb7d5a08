"""`config.pbtxt` of the ONNX stages for NVIDIA's container on a GPU, in three variants.

Triton takes `<stage>/configs/<name>.pbtxt` instead of `<stage>/config.pbtxt` when it is started
with `--model-config-name=<name>`; stages without such a file keep their own. Parameters are those
of the native backend (github.com/triton-inference-server/onnxruntime_backend, README).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from triton_python_backend.contract import (
    CANVAS,
    CROP_SIZE,
    CROPS,
    DETECTION,
    EMBEDDING_STAGE,
    FRAME_SIZE,
    MOST_FACES,
)
from triton_python_backend.preprocess import CANVAS_STEP

CONFIG_FILE: Final = "config.pbtxt"
CONFIGS_FOLDER: Final = "configs"
ENGINES: Final = "/var/cache/aurum-tensorrt"
"""Folder of TensorRT's built engines in the container; a volume saves minutes at each start."""

_OF_CPUS: Final = ("intra_op_thread_count", "enable_mem_pattern", "rows_per_run")
"""Parameters to remove for a GPU."""

_CUDA_CONV_SEARCH: Final = "DEFAULT"
"""cuDNN's default algorithms: a search would run again for each of many canvas sizes."""


class GpuConfigError(Exception):
    """A stage's configuration that cannot be read; the text names the file."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Batching of a stage's requests on a GPU."""

    largest: int
    """Largest number of rows in a batch, of one request or several."""
    preferred: tuple[int, ...]
    microseconds: int
    """Longest wait of a batch's first request for others."""
    instances: int
    """Model instances on each GPU: one computes while another copies."""


BATCHING: Final[Mapping[str, Batching]] = {
    DETECTION.name: Batching(32, (8, 16, 32), 1000, 2),
    EMBEDDING_STAGE.name: Batching(MOST_FACES, (32, 128, MOST_FACES), 1000, 2),
}
"""A batch on a GPU costs little more than one row; a request waits at most in two stages."""

WARM_UP: Final[Mapping[str, tuple[str, tuple[tuple[int, ...], ...]]]] = {
    DETECTION.name: (CANVAS, ((FRAME_SIZE, FRAME_SIZE, 3), (CANVAS_STEP, CANVAS_STEP, 3))),
    EMBEDDING_STAGE.name: (CROPS, ((CROP_SIZE, CROP_SIZE, 3),)),
}
"""The input of each stage with its largest and smallest shape. At load both run, in the largest
batch and alone: TensorRT extends its profile to the shapes it has seen and rebuilds the engine, so
these two runs define the profile. A profile by input name does not work: TensorRT gets the pixels
after their conversion to float, under the name of a tensor inside the graph."""
VARIANTS: Final = ("cuda", "tensorrt", "tensorrt-graphs")
"""Names for `--model-config-name`."""


def write_configs(repository: Path, target: Path) -> list[Path]:
    """Write all variants of each stage that benefits from a GPU.

    Args:
        repository: with the base `config.pbtxt` files; names, types and versions stay unchanged.
        target: a folder with a repository's layout, to be copied over one.

    Returns:
        The files, in the order of variants.

    Raises:
        GpuConfigError: if a stage's configuration is missing or invalid.
    """
    written = []
    for variant in VARIANTS:
        for stage in BATCHING:
            config = make_config(_read(repository / stage / CONFIG_FILE), variant)
            path = target / stage / CONFIGS_FOLDER / f"{variant}.pbtxt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_HEADER.format(variant=variant) + text_format.MessageToString(config))
            written.append(path)
    return written


def make_config(base: Any, variant: str) -> Any:
    """Make one variant of a stage's `ModelConfig` from the one for CPUs."""
    stage = base.name
    batching = BATCHING[stage]
    config = model_config_pb2.ModelConfig()
    config.CopyFrom(base)
    config.max_batch_size = batching.largest
    config.dynamic_batching.preferred_batch_size[:] = batching.preferred
    config.dynamic_batching.max_queue_delay_microseconds = batching.microseconds
    del config.instance_group[:]
    kind = model_config_pb2.ModelInstanceGroup.KIND_GPU
    config.instance_group.add(kind=kind, count=batching.instances)
    # it gives the number of CPU threads
    for parameter in _OF_CPUS:
        config.parameters.pop(parameter, None)
    config.optimization.input_pinned_memory.enable = True
    config.optimization.output_pinned_memory.enable = True
    config.optimization.execution_accelerators.gpu_execution_accelerator.add(
        name="cuda" if variant == "cuda" else "tensorrt", parameters=_settings(stage, variant)
    )
    _warm_up(config)
    return config


def _warm_up(config: Any) -> None:
    name, shapes = WARM_UP[config.name]
    for batch, dims in ((config.max_batch_size, shapes[0]), (1, shapes[-1])):
        sample = config.model_warmup.add(name=f"batch of {batch}", batch_size=batch, count=1)
        given = sample.inputs[name]
        given.data_type = model_config_pb2.TYPE_UINT8
        given.dims[:] = dims
        given.zero_data = True


def _settings(stage: str, variant: str) -> dict[str, str]:
    if variant == "cuda":
        return {"cudnn_conv_algo_search": _CUDA_CONV_SEARCH, "use_tf32": "1"}
    found = {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": str(2 << 30),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"{ENGINES}/{stage}",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": ENGINES,
    }
    if variant == "tensorrt-graphs":
        found["trt_cuda_graph_enable"] = "1"
    return found


def _read(path: Path) -> Any:
    try:
        return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    except OSError as error:
        raise GpuConfigError(f"{path} cannot be read: {error.strerror}") from error
    except text_format.ParseError as error:
        raise GpuConfigError(f"{path} is no model configuration: {error}") from error


_HEADER: Final = """\
# Made by `aurum models optimise --gpu` for NVIDIA's container: tritonserver
# --model-config-name={variant}. It was parsed, but not run on a GPU.
"""

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
"""Where TensorRT keeps built engines in the container; a volume spares minutes at each start."""

_OF_CPUS: Final = ("intra_op_thread_count", "enable_mem_pattern", "rows_per_run")
"""Parameters that a GPU's configuration does without."""

_CUDA_CONV_SEARCH: Final = "DEFAULT"
"""cuDNN's default algorithms: canvases come in many sizes, and each would be searched for anew."""


class GpuConfigError(Exception):
    """A stage's configuration that cannot be read; the text names the file."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests of a stage are joined on a GPU."""

    largest: int
    """Rows: of joined requests, and of one."""
    preferred: tuple[int, ...]
    microseconds: int
    """That the first request of a batch waits for others at most."""
    instances: int
    """On each GPU: one computes while another copies."""


BATCHING: Final[Mapping[str, Batching]] = {
    DETECTION.name: Batching(32, (8, 16, 32), 1000, 2),
    EMBEDDING_STAGE.name: Batching(MOST_FACES, (32, 128, MOST_FACES), 1000, 2),
}
"""A batch on a GPU costs little more than one row; the ensemble waits at most twice."""

WARM_UP: Final[Mapping[str, tuple[str, tuple[tuple[int, ...], ...]]]] = {
    DETECTION.name: (CANVAS, ((FRAME_SIZE, FRAME_SIZE, 3), (CANVAS_STEP, CANVAS_STEP, 3))),
    EMBEDDING_STAGE.name: (CROPS, ((CROP_SIZE, CROP_SIZE, 3),)),
}
"""The input of each stage and its largest and smallest shape, run at load in the largest batch and
alone. TensorRT widens its profile to what it has seen and builds the engine anew for it, so these
two runs are the profile. A profile by the input's name would not do: uint8 pixels reach TensorRT
after they were made floats, under the name of a tensor inside the graph."""
VARIANTS: Final = ("cuda", "tensorrt", "tensorrt-graphs")
"""Names for `--model-config-name`."""


def write_configs(repository: Path, target: Path) -> list[Path]:
    """Write all variants of each stage that gains from a GPU.

    Args:
        repository: whose `config.pbtxt` are the base; names, types and versions stay as they are.
        target: a folder, laid out as a repository, to be copied over one.

    Returns:
        The files, in the order of variants.

    Raises:
        GpuConfigError: if a stage's configuration is missing or no configuration.
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
    """Make a stage's `ModelConfig` of one variant from the one for processors."""
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
    # which counts the processor's threads
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
# --model-config-name={variant}. It was parsed, and not run on a GPU.
"""

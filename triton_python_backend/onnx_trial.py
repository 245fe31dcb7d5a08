"""Load and try a network for `onnx_plan`, and derive the plan for the compiled backend."""

from collections.abc import Iterator
from pathlib import Path

from triton_python_backend.contract import stage_of
from triton_python_backend.fingerprint import find_library
from triton_python_backend.onnx_session import Config, OnnxSession, session_options
from triton_python_backend.self_test import self_test


def plan(config: Config, model: Path) -> Iterator[str]:
    """Try the network, then yield the lines of its plan.

    Raises:
        ConfigMismatchError, SelfTestError: as `OnnxSession` and `self_test`.
        FileNotFoundError: if the wheel has no shared library.

    """
    session = OnnxSession(config, model)
    self_test(stage_of(str(config["name"])), session)
    library = find_library()
    if library is None:
        raise FileNotFoundError("this onnxruntime brings no shared library")
    options = session_options(config)
    yield f"library {library}"
    yield f"model {model}"
    yield f"level {int(options.graph_optimization_level)}"
    yield f"intra {options.intra_op_num_threads}"
    yield f"inter {options.inter_op_num_threads}"
    yield f"parallel {int(options.execution_mode)}"
    yield f"pattern {int(options.enable_mem_pattern)}"
    yield f"arena {int(options.enable_cpu_mem_arena)}"
    yield f"batches {int(session.batches)}"
    yield f"rows_per_run {session.rows_per_run}"
    for entry in config["input"]:
        yield f"input {entry['name']}"

"""What the compiled `onnxruntime` backend asks before it loads a version.

    python3 -m triton_python_backend.onnx_plan FOLDER < config.json

The network in the version's FOLDER is loaded as the config says and tried, as the backend in Python
does. Then the plan is printed, a word and a value on each line, or the complaint, with an exit code
of 1.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnxruntime

from triton_python_backend.contract import stage_of
from triton_python_backend.onnx_session import Config, OnnxSession, session_options
from triton_python_backend.self_test import self_test

DEFAULT_FILE: Final = "model.onnx"


def find_library() -> Path | None:
    """Find ONNX Runtime's shared library in the wheel, if it brings one."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    return next(iter(sorted(folder.glob("libonnxruntime.so.*"))), None)


def plan(config: Config, folder: Path) -> Iterator[str]:
    """Try the network and say how it is to be run.

    Raises:
        ConfigMismatchError, SelfTestError: as `OnnxSession` and `self_test`.
        FileNotFoundError: where the wheel brings no shared library.

    """
    model = folder / (config.get("default_model_filename") or DEFAULT_FILE)
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


def main() -> int:
    """Print the plan, or what is wrong."""
    try:
        lines = list(plan(json.load(sys.stdin), Path(sys.argv[1])))
    except Exception as error:  # noqa: BLE001 - the server reports it and keeps the version before
        # in the words of the backend in Python
        sys.stdout.write(f"{type(error).__name__}: {error}")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command that the compiled `onnxruntime` backend runs before it loads a version.

    python3 -m triton_python_backend.onnx_plan FOLDER < config.json

It loads the network in the version's FOLDER as the config says and tries it, like the Python
backend. Then it prints the plan, one word and value per line, or the error, with exit status 1.

A network that passed is not tried again with the same config, runtime and processor: its plan is
kept in the folder of the variable `ONNX_PLANS`. Importing the libraries for a trial takes most of
the time of Triton's start.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from triton_python_backend.fingerprint import file_digest, fingerprint

DEFAULT_FILE: Final = "model.onnx"
PLANS_VARIABLE: Final = "ONNX_PLANS"
MOST_KEPT: Final = 64


def make_plan(config: dict[str, Any], folder: Path) -> str:
    """Return the plan of an earlier trial, or try the network; raises as `onnx_trial.plan`."""
    model = folder / (config.get("default_model_filename") or DEFAULT_FILE)
    kept = _place(config, model)
    if kept is not None and kept.is_file():
        return kept.read_text()
    # imports onnxruntime, NumPy and OpenCV, which a network that passed before does not need
    from triton_python_backend.onnx_trial import plan

    text = "\n".join(plan(config, model)) + "\n"
    if kept is not None:
        _keep(kept, text)
    return text


def _place(config: dict[str, Any], model: Path) -> Path | None:
    """Return the file of a network's plan; None without a plans folder or without a network."""
    folder = os.environ.get(PLANS_VARIABLE)
    if not folder or not model.is_file():
        return None
    asked = json.dumps(config, sort_keys=True).encode()
    return Path(folder) / fingerprint(asked, str(model).encode(), file_digest(model))


def _keep(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text)
        new.replace(path)
        plans = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in plans[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        sys.stderr.write(f"the plan of {path.name} is not kept: {error}\n")


def main() -> int:
    """Print the plan or the error."""
    try:
        text = make_plan(json.load(sys.stdin), Path(sys.argv[1]))
    except Exception as error:  # noqa: BLE001 - the server reports it and keeps the version before
        # the same words as the Python backend
        sys.stdout.write(f"{type(error).__name__}: {error}")
        return 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

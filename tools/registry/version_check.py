"""Does a version folder work? Asked before it is put into service."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tools.errors import LifecycleError, WeightsError
from tools.registry.repository import (
    METADATA_FILE,
    MODEL_FILE,
    VersionMetadata,
    read_version_metadata,
)
from triton_python_backend.contract import ONNX_STAGES, Stage
from triton_python_backend.onnx_session import OnnxSession
from triton_python_backend.self_test import self_test

Check = Callable[[str, Path], None]
"""Given a stage and a version folder; raises LifecycleError saying what is wrong with it."""

_STAGES: Final = {stage.name: stage for stage in ONNX_STAGES}


def check_version(stage: str, folder: Path) -> None:
    """Hold a version against its sidecar's digest, load it as Triton would and run it once.

    Raises:
        LifecycleError: if anything is wrong with it.
    """
    check_digest(folder)
    open_session(stage, folder)


def check_digest(folder: Path) -> VersionMetadata | None:
    """Hold the network against the digest in its sidecar, if it has one; returns the sidecar."""
    path = folder / MODEL_FILE
    if not path.is_file():
        raise LifecycleError(f"{folder} holds no {MODEL_FILE}")
    if not (folder / METADATA_FILE).is_file():
        return None
    try:
        metadata = read_version_metadata(folder / METADATA_FILE)
    except WeightsError as error:
        raise LifecycleError(str(error)) from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != metadata.sha256:
        raise LifecycleError(f"{path} has the SHA-256 {digest}; its sidecar says {metadata.sha256}")
    return metadata


def open_session(stage: str, folder: Path) -> OnnxSession:
    """Load a version as the backend does and run its self-test.

    Raises:
        LifecycleError: with what onnxruntime or the test says.
    """
    try:
        session = OnnxSession(config_of(_STAGES[stage]), folder / MODEL_FILE)
        self_test(stage, session)
    # whatever onnxruntime raises, which is any of a dozen kinds, speaks against the version
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise LifecycleError(f"{folder} does not work: {reason}") from error
    return session


def config_of(stage: Stage) -> Mapping[str, Any]:
    """A stage's configuration as Triton would pass it to the backend, with one thread."""
    return {
        "max_batch_size": stage.max_batch_size,
        "parameters": {"intra_op_thread_count": {"string_value": "1"}},
        "input": [_entry(t.name, t.dtype, t.dims) for t in stage.inputs],
        "output": [_entry(t.name, t.dtype, t.dims) for t in stage.outputs],
    }


def _entry(name: str, dtype: str, dims: tuple[int, ...]) -> Mapping[str, Any]:
    return {"name": name, "data_type": f"TYPE_{dtype}", "dims": list(dims)}

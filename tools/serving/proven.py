"""A record of the weights that passed all checks, so that the next start need not repeat them.

The checks load and run each network, which takes most of the time before Triton starts. Their
result holds for the same files, runtime and processor.
"""

import os
from pathlib import Path
from typing import Final

from tools.serving.home import Home
from triton_python_backend.contract import ONNX_STAGES, PIPELINE, candidate_of
from triton_python_backend.fingerprint import file_digest, fingerprint

_CHECK: Final = Path(__file__).parents[1] / "registry" / "version_check.py"
_FILES: Final = ("model.onnx", "model.json")


def are_proven(home: Home, repository: Path) -> bool:
    """Whether the weights of a repository, as they are now, have passed all checks."""
    try:
        return _record(home).read_text() == _signature(repository)
    except OSError:
        return False


def note_proven(home: Home, repository: Path) -> None:
    """Record that the weights of a repository passed all checks."""
    signature = _signature(repository)
    if signature:
        record = _record(home)
        record.parent.mkdir(parents=True, exist_ok=True)
        new = record.with_suffix(".new")
        new.write_text(signature)
        new.replace(record)


def _record(home: Home) -> Path:
    return home.trials / "weights"


def _signature(repository: Path) -> str:
    """Hash all versions of all stages; empty while a version is on trial."""
    if (repository / candidate_of(PIPELINE.name)).exists():
        return ""
    parts = [_CHECK.read_bytes()]
    for stage in ONNX_STAGES:
        with os.scandir(repository / stage.name) as entries:
            versions = sorted(entry.name for entry in entries if entry.name.isdecimal())
        for version in versions:
            for name in _FILES:
                path = repository / stage.name / version / name
                digest = file_digest(path) if path.is_file() else b""
                parts += [f"{stage.name}/{version}/{name}".encode(), digest]
    return fingerprint(*parts)

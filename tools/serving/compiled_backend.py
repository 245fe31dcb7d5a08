"""The `onnxruntime` backend, compiled if a C++ compiler is installed.

The compiled backend runs networks inside the server. The Python backend needs a process per model
instance and copies every canvas and crop to it. The compiled library is kept beside the server.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from gateway.checkout import CHECKOUT
from tools.serving.errors import ServingError

SOURCES: Final = CHECKOUT / "triton_python_backend" / "onnxruntime"
LIBRARY: Final = "libtriton_onnxruntime.so"
"""The file name that Triton searches for."""

Wanted = Literal["auto", "compiled", "python"]

_MAIN: Final = "backend.cc"
_FLAGS: Final = ("-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra")
_TIMEOUT_SECONDS: Final = 120


def provide(folder: Path, wanted: Wanted, *, report: Callable[[str], None]) -> Path | None:
    """Return the compiled backend, compiling it into `folder` if needed; None: use Python's.

    Raises ServingError if the settings demand it and it cannot be compiled.
    """
    if wanted == "python":
        return None
    try:
        return _provide(folder, report)
    except ServingError as error:
        if wanted == "compiled":
            raise
        report(f"Using the Python backend for networks, which is some percent slower: {error}")
        return None


def _provide(folder: Path, report: Callable[[str], None]) -> Path:
    _check_runtime()
    library = folder / _digest() / LIBRARY
    if not library.is_file():
        compiler = _find_compiler()
        report("Compiling the onnxruntime backend (some seconds; only when it changes)")
        try:
            _compile(compiler, library)
        except OSError as error:
            message = f"the compiled backend cannot be written to {folder}: {error}"
            raise ServingError(message) from error
    return library


def _check_runtime() -> None:
    spec = importlib.util.find_spec("onnxruntime")
    folder = Path(spec.origin or "").parent / "capi" if spec else Path()
    if not list(folder.glob("libonnxruntime.so.*")):
        raise ServingError("this onnxruntime has no shared library")
    if list(folder.glob("libonnxruntime_providers_cuda*")):
        raise ServingError("this onnxruntime is for GPUs; the compiled backend supports CPUs only")


def _find_compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    raise ServingError("no C++ compiler was found; on Debian: apt-get install g++")


def _digest() -> str:
    """Hash what a library depends on; another system with another C library may use the home.

    Not the compiler: containers bring the library and no compiler.
    """
    made_by = (*_FLAGS, platform.machine(), *platform.libc_ver())
    digest = hashlib.sha256(" ".join(made_by).encode())
    for source in sorted(SOURCES.glob("*.[ch]*")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as aside:
        made = Path(aside) / LIBRARY
        command = [compiler, *_FLAGS, "-o", str(made), str(SOURCES / _MAIN), "-ldl"]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ServingError(f"{compiler} did not end in {_TIMEOUT_SECONDS} s") from error
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if "error" in line]
            why = lines[0] if lines else f"exit code {result.returncode}"
            raise ServingError(f"{compiler} cannot compile the backend: {why}")
        made.rename(library)

"""Triton's environment: backends folder, Python interpreter, libraries.

The Python backend's stub starts an isolated interpreter: it ignores `PYTHONPATH`, `PYTHONHOME` and
`PYTHONDONTWRITEBYTECODE`. Like a virtual environment, it takes its packages from the first
`python3` on `PATH`; so a small environment of its own is put first.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from gateway.checkout import CHECKOUT, without_secrets
from tools.serving.errors import ServingError
from tools.serving.home import Home
from tools.serving.triton_install import PYTHON, Installation
from triton_python_backend.onnx_plan import PLANS_VARIABLE

ONNX_BACKEND: Final = CHECKOUT / "triton_python_backend" / "onnxruntime" / "model.py"
"""The Python backend, used if none can be compiled."""

_LIBPYTHON: Final = f"libpython{PYTHON}.so.1.0"
_SYSTEM_LIBRARIES: Final = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
_ONE_THREAD: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


def assemble_backends(
    home: Home, installation: Installation, *, onnx_backend: Path = ONNX_BACKEND
) -> Path:
    """Fill the folder for `--backend-directory` and return it.

    Files are copied: Triton refuses a backend library that is a symbolic link out of its folder.
    """
    shutil.rmtree(home.backends, ignore_errors=True)
    python = home.backends / "python"
    shutil.copytree(installation.python_backend, python)
    shutil.copy2(installation.stub, python / installation.stub.name)
    onnxruntime = home.backends / "onnxruntime"
    onnxruntime.mkdir()
    try:
        shutil.copy2(onnx_backend, onnxruntime / onnx_backend.name)
    except FileNotFoundError as error:
        message = f"the onnxruntime backend is missing: {onnx_backend}"
        raise ServingError(message) from error
    return home.backends


def assemble_interpreter(home: Home) -> Path:
    """Create the environment of the Python stages and return its `bin` folder.

    It contains the packages of this interpreter and this checkout, and writes no bytecode: a
    `__pycache__` in a version folder would make Triton's poll mode reload the stage.
    """
    shutil.rmtree(home.interpreter, ignore_errors=True)
    binaries = home.interpreter / "bin"
    packages = home.interpreter / "lib" / f"python{PYTHON}" / "site-packages"
    binaries.mkdir(parents=True)
    packages.mkdir(parents=True)
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    (binaries / "python3").symlink_to(base)
    (home.interpreter / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\n"
    )
    lines = [str(CHECKOUT), *_package_folders(), "import sys; sys.dont_write_bytecode = True"]
    (packages / "aurum.pth").write_text("\n".join(lines) + "\n")
    return binaries


KEEP_MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024 * 1024),
    "MALLOC_ARENA_MAX": str(max(2, os.cpu_count() or 1)),
}
"""Keep freed memory in the process: otherwise glibc maps each picture's memory again, and touching
new pages costs more than the copies. Each arena keeps freed memory, so there is one per core, not
eight as by default."""


def environment(
    home: Home, installation: Installation, *, max_image_pixels: int
) -> Mapping[str, str]:
    """Environment variables of the server, which its stages inherit."""
    libraries = [str(installation.libraries)]
    libpython = find_libpython()
    if libpython is not None:
        libraries.insert(0, str(libpython.parent))
    return {
        **without_secrets(os.environ),
        "PATH": os.pathsep.join([str(home.interpreter / "bin"), os.environ.get("PATH", "")]),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONUNBUFFERED": "1",
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(max_image_pixels),
        PLANS_VARIABLE: str(home.trials / "plans"),
        **KEEP_MEMORY,
        **dict.fromkeys(_ONE_THREAD, "1"),
    }


def check(installation: Installation, backends: Path, variables: Mapping[str, str]) -> None:
    """Raise ServingError naming missing libraries, before the server is started."""
    _check_numpy()
    if find_libpython() is None:
        message = (
            f"{_LIBPYTHON} is missing; Triton's Python stages need it: "
            f"on Debian: apt-get install libpython{PYTHON}"
        )
        raise ServingError(message)
    python = backends / "python"
    programs = [
        installation.binary,
        python / "libtriton_python.so",
        python / installation.stub.name,
    ]
    for program in programs:
        missing = _missing_libraries(program, variables)
        if missing:
            message = f"{program.name} needs libraries that are not installed: {', '.join(missing)}"
            raise ServingError(message)


def find_libpython() -> Path | None:
    """Return the shared library of this Python: its own, else the system's; None without one."""
    own = [str(sysconfig.get_config_var("LIBDIR") or ""), str(Path(sys.base_prefix) / "lib")]
    for folder in [*own, *_SYSTEM_LIBRARIES]:
        candidate = Path(folder) / _LIBPYTHON
        if folder and candidate.exists():
            return candidate
    return None


def _package_folders() -> list[str]:
    names = ("site-packages", "dist-packages")
    return [entry for entry in sys.path if Path(entry).name in names]


def _check_numpy() -> None:
    try:
        found = version("numpy")
    except PackageNotFoundError as error:
        message = f"numpy is not installed for {sys.executable}"
        raise ServingError(message) from error
    if int(found.split(".")[0]) >= 2:
        message = (
            f"numpy {found} is installed, but Triton's Python stages only support numpy 1 (arrays "
            "of newer ones arrive empty): pip install 'numpy<2'"
        )
        raise ServingError(message)


def _missing_libraries(program: Path, variables: Mapping[str, str]) -> list[str]:
    ldd = shutil.which("ldd")
    if ldd is None:
        return []
    result = subprocess.run(
        [ldd, str(program)], env=dict(variables), capture_output=True, text=True, check=False
    )
    lines = result.stdout.splitlines()
    return [line.split("=>")[0].strip() for line in lines if line.endswith("not found")]

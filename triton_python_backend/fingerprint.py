"""A fingerprint of everything that a network's trial depends on, besides its file; no imports.

A network that passed a trial with the same runtime, trial and processor is not tried again at the
next start.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

_TRIAL: Final = ("contract.py", "onnx_plan.py", "onnx_session.py", "portrait.jpg", "self_test.py")
_PROCESSOR: Final = Path("/proc/cpuinfo")
_TELLING: Final = ("model name", "flags")


def find_library() -> Path | None:
    """Find ONNX Runtime's shared library in the wheel, if it has one."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "capi"
    return next(iter(sorted(folder.glob("libonnxruntime.so.*"))), None)


def fingerprint(*more: bytes) -> str:
    """Hash runtime, trial, processor and `more` to 64 hexadecimal digits."""
    digest = hashlib.sha256()
    library = find_library()
    if library is not None:
        status = library.stat()
        _add(digest, f"{library} {status.st_size} {status.st_mtime_ns}".encode())
    for name in _TRIAL:
        _add(digest, Path(__file__).with_name(name).read_bytes())
    _add(digest, _processor().encode())
    for each in more:
        _add(digest, each)
    return digest.hexdigest()


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _add(digest: "hashlib._Hash", part: bytes) -> None:
    digest.update(len(part).to_bytes(8) + part)


def _processor() -> str:
    """Name the processor's features, by which kernels are chosen."""
    try:
        text = _PROCESSOR.read_text()
    except OSError:
        return ""
    first = text.partition("\n\n")[0].splitlines()
    return "\n".join(line for line in first if line.startswith(_TELLING))

"""What the verdict on a network depends on, beside its file; imports no library.

A network that was tried once with the same runtime, the same trial and the same processor need not
be tried again at the next start.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

_TRIAL: Final = ("contract.py", "onnx_plan.py", "onnx_session.py", "portrait.jpg", "self_test.py")
_PROCESSOR: Final = Path("/proc/cpuinfo")
_TELLING: Final = ("model name", "flags")


def find_library() -> Path | None:
    """Find ONNX Runtime's shared library in the wheel, if it brings one."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "capi"
    return next(iter(sorted(folder.glob("libonnxruntime.so.*"))), None)


def fingerprint(*more: bytes) -> str:
    """Hash runtime, trial and processor, and `more`: 64 hexadecimal digits."""
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
    """Kernels are chosen by what the processor can do."""
    try:
        text = _PROCESSOR.read_text()
    except OSError:
        return ""
    first = text.partition("\n\n")[0].splitlines()
    return "\n".join(line for line in first if line.startswith(_TELLING))

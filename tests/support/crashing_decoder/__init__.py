"""A decoder that a picture can crash: nothing of it is in the product.

The crash is a real one: the process reads address 0 and gets SIGSEGV, as from a fault in OpenCV or
in a library within. `injected/sitecustomize.py` does it, in processes that find that folder on
their path.
"""

from pathlib import Path
from typing import Final

from triton_python_backend import contract

INJECTED: Final = Path(__file__).parent / "injected"
"""To be put on the path of the process that owns decoders."""
_CRASHES: Final = b"this picture crashes the decoder"
_HANGS: Final = b"this picture hangs the decoder"


def crash_pictures_of(repository: Path) -> None:
    """Change a copied repository: a marked picture crashes the process that decodes it."""
    for stage in (contract.PREPROCESS, contract.ALIGNMENT):
        model = repository / stage.name / "1" / "model.py"
        inject = f"import sys\n\nsys.path.insert(0, {str(INJECTED)!r})\n"
        model.write_text(inject + model.read_text())


def crashing(picture: bytes, number: int = 0) -> bytes:
    """Mark a picture behind its end; another number gives another picture."""
    return picture + _CRASHES + number.to_bytes(4, "big")


def hanging(picture: bytes) -> bytes:
    """Mark a picture whose decoding never ends."""
    return picture + _HANGS

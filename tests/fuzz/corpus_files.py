"""Where the corpora are, and the inputs of one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"


def folder_of(target: str) -> Path:
    """Return the folder of a target's inputs."""
    return CORPUS / target


def inputs_of(target: str) -> Iterator[tuple[str, bytes]]:
    """Yield the inputs of a target with their names."""
    for file in sorted(folder_of(target).iterdir()):
        yield file.name, file.read_bytes()

"""`python -m tools.golden REPOSITORY`: keep what the versions of a repository answer.

Run by whoever adds weights to the project, after the golden tests have passed.
"""

from pathlib import Path

import typer
from rich.console import Console

from tools.golden.answers import answer, record
from tools.importing.repository import MODEL_FILE, SIDECAR_FILE, read_sidecar, versions
from triton_python_backend.contract import ONNX_STAGES


def main(repository: Path) -> None:
    """Record the golden answers of every version."""
    for stage in ONNX_STAGES:
        for number in versions(repository / stage.name):
            folder = repository / stage.name / str(number)
            card = read_sidecar(folder / SIDECAR_FILE)
            path = folder / MODEL_FILE
            found = answer(
                stage.name, path.read_bytes(), path, space=card.space, width=card.dimension
            )
            record(stage.name, found, source=card.source.file)
            Console().print(f"{stage.name} {found.id} ({card.source.file})")


if __name__ == "__main__":
    typer.run(main)

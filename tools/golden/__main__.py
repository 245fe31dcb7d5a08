"""`python -m tools.golden REPOSITORY`: keep what the versions of a repository answer.

Run by whoever adds weights to the project, after the golden tests have passed. For the project's
own repository it also writes sizes and digests into `models.json` and, given the photos, measures
the references that drift is told against.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.settings import CHECKOUT
from tools.evaluation.held_out import held_out
from tools.evaluation.references import measure, write
from tools.golden.answers import answer, record
from tools.packs.manifest import MANIFEST, refresh_built_in
from tools.registry.repository import MODEL_FILE, SIDECAR_FILE, read_version_metadata, versions
from triton_python_backend.contract import ONNX_STAGES

SHIPPED = CHECKOUT / "model_repository"
_TOLD = "photos held out of the detector's training: FairFace, UTKFace, MEBeauty, ImageNet scenes"


def main(
    repository: Path,
    *,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of the training photos' tar files.")
    ] = None,
) -> None:
    """Record the golden answers of every version."""
    out = Console()
    for stage in ONNX_STAGES:
        for number in versions(repository / stage.name):
            folder = repository / stage.name / str(number)
            card = read_version_metadata(folder / SIDECAR_FILE)
            path = folder / MODEL_FILE
            found = answer(
                stage.name, path.read_bytes(), path, space=card.space, width=card.dimension
            )
            record(stage.name, found, source=card.source.file)
            out.print(f"{stage.name} {found.id} ({card.source.file})")
    if repository.resolve() == SHIPPED:
        refresh_built_in(repository)
        out.print(f"{MANIFEST.name}: sizes and digests of the built-in networks")
    if photos is not None:
        with out.status("measuring") as status:
            references = measure(
                repository,
                held_out(photos),
                told=_TOLD,
                progress=lambda done: status.update(f"measured {done} photos"),
            )
        for path in write(repository, references):
            out.print(str(path), markup=False)


if __name__ == "__main__":
    typer.run(main)

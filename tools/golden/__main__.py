"""`python -m tools.golden REPOSITORY`: keep what the versions of a repository answer.

Run it after adding weights to the project, once the golden tests have passed. For the project's
own repository it also writes sizes and digests into `models.json` and, given the photos, measures
the references for drift.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.settings import CHECKOUT
from tools.evaluation.held_out import held_out
from tools.evaluation.references import measure, write
from tools.golden.answers import GOLDEN_STAGES, answer, record
from tools.packs.manifest import MANIFEST, refresh_built_in
from tools.registry.repository import METADATA_FILE, MODEL_FILE, read_version_metadata, versions

SHIPPED = CHECKOUT / "model_repository"
_PHOTO_SOURCE = (
    "photos held out of the detector's training: FairFace, UTKFace, MEBeauty, ImageNet scenes"
)


def main(
    repository: Path,
    *,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of the training photos' tar files.")
    ] = None,
) -> None:
    """Record the golden answers of every version."""
    out = Console()
    for stage in GOLDEN_STAGES:
        for number in versions(repository / stage.name):
            folder = repository / stage.name / str(number)
            metadata = read_version_metadata(folder / METADATA_FILE)
            path = folder / MODEL_FILE
            found = answer(
                stage.name, path.read_bytes(), path, space=metadata.space, width=metadata.dimension
            )
            record(stage.name, found, source=metadata.source.file)
            out.print(f"{stage.name} {found.id} ({metadata.source.file})")
    if repository.resolve() == SHIPPED:
        refresh_built_in(repository)
        out.print(f"{MANIFEST.name}: sizes and digests of the built-in networks")
    if photos is not None:
        with out.status("measuring") as status:
            references = measure(
                repository,
                held_out(photos),
                photo_source=_PHOTO_SOURCE,
                progress=lambda done: status.update(f"measured {done} photos"),
            )
        for path in write(repository, references):
            out.print(str(path), markup=False)


if __name__ == "__main__":
    typer.run(main)

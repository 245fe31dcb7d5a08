"""`aurum models reference`: what the faces of known photos look like to the versions in service."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gateway.registry.reference import Reference
from tools.commands.models.common import Repository, opened
from tools.evaluation.photos import sample
from tools.evaluation.references import measure, write
from tools.evaluation.second_look import FEWEST_PHOTOS
from triton_python_backend.contract import DETECTION


def reference(
    photos: Annotated[list[Path], typer.Argument(help="Folders or tar files of photos.")],
    *,
    most: Annotated[
        int, typer.Option(min=1, help="Largest number of photos, spread evenly.")
    ] = 2000,
    description: Annotated[
        str | None,
        typer.Option(
            "--description", "--told", help="Description of the photos; default their file names."
        ),
    ] = None,
    repository: Repository = None,
) -> None:
    """Measure the newest versions on typical photos, as the reference for drift."""
    with opened(repository) as context:
        named = description or ", ".join(source.name for source in photos)
        with context.errors.status("measuring") as status:
            references = measure(
                context.version_store.repository,
                sample(photos, most=most),
                photo_source=named,
                progress=lambda done: status.update(f"measured {done} photos"),
            )
        paths = write(context.version_store.repository, references)
        context.out.print(_table(references))
        context.out.print(_second_look(references[DETECTION.name]), markup=False)
        for path in paths:
            context.out.print(str(path), markup=False)


def _table(references: dict[str, Reference]) -> Table:
    faces = next(iter(references.values())).faces
    table = Table("stage", "measure", "a tenth is below", "half", "a tenth above")
    table.title = f"{faces} faces"
    for stage, found in references.items():
        for name, histogram in found.measures.items():
            edges = histogram.edges
            shown = [f"{edges[at]:.4g}" for at in (0, len(edges) // 2, -1)] if edges else []
            table.add_row(stage, name, *shown)
    return table


def _second_look(detection: Reference) -> str:
    found = detection.second_look
    if found is None:
        return (
            "The confidences below which the detector is asked again were not measured: "
            f"that takes {FEWEST_PHOTOS} photos with faces."
        )
    return (
        f"The close-up is looked at below a confidence of {found['closeup_below']:.3f} "
        f"({found['closeup_share']:.1%} of the photos), turned pictures below "
        f"{found['turned_below']:.3f} ({found['turned_share']:.1%})."
    )

"""`aurum models reference`: what the faces of known photos look like to the versions in service."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gateway.registry.reference import Reference
from tools.commands.models.common import Repository, opened
from tools.evaluation.photos import sample
from tools.evaluation.references import measure, write


def reference(
    photos: Annotated[list[Path], typer.Argument(help="Folders or tar files of photos.")],
    *,
    most: Annotated[int, typer.Option(min=1, help="Take every n-th, at most so many.")] = 2000,
    told: Annotated[str | None, typer.Option(help="Which photos these are, noted.")] = None,
    repository: Repository = None,
) -> None:
    """Measure the newest versions on photos like yours, as the reference that drift is from."""
    with opened(repository) as context:
        named = told or ", ".join(source.name for source in photos)
        with context.errors.status("measuring") as status:
            references = measure(
                context.version_store.repository,
                sample(photos, most=most),
                told=named,
                progress=lambda done: status.update(f"measured {done} photos"),
            )
        paths = write(context.version_store.repository, references)
        context.out.print(_table(references))
        for path in paths:
            context.out.print(str(path), markup=False)


def _table(references: dict[str, Reference]) -> Table:
    faces = next(iter(references.values())).faces
    table = Table("stage", "measure", "a tenth is below", "half", "a tenth above")
    table.title = f"{faces} faces"
    for stage, found in references.items():
        for name, histogram in found.measures.items():
            edges = histogram.edges
            told = [f"{edges[at]:.4g}" for at in (0, len(edges) // 2, -1)] if edges else []
            table.add_row(stage, name, *told)
    return table

"""`aurum search`: search a collection for the faces of many photos."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated

import typer

from gateway.settings import Settings
from tools.batch import options as given
from tools.batch.command import carry_out, open_service
from tools.batch.orders import Order, SearchOrder, need_collection
from triton_python_backend import contract

app = typer.Typer(add_completion=False)


class Searched(StrEnum):
    """Which faces of a photo to search for."""

    ALL = "all"
    LARGEST = "largest"


@app.command("search", cls=given.BatchCommand, epilog=given.EXIT_STATUSES)
def search(
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="Name of the collection.")
    ],
    paths: given.Paths,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most matches of a face.")] = 10,
    threshold: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Lowest similarity; default: the collection's."),
    ] = None,
    faces: Annotated[Searched, typer.Option(help="Faces to search for.")] = Searched.ALL,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
    parallel: given.Parallel = 8,
    from_list: given.FromList = False,
    output: given.Output = None,
    resume: given.Resume = False,
    format_: given.FormatOption = None,
    draw: given.Draw = None,
    html: given.Html = None,
    min_confidence: given.MinConfidence = contract.MIN_CONFIDENCE,
    detail: given.Detailed = "standard",
) -> None:
    """Search COLLECTION for the faces of many photos.

    Tables have the best match of each face, NDJSON has all of them. Searching needs the service.
    """
    options = given.Options(paths, from_list, url, parallel, output, resume, format_, draw, html)
    fields = {"limit": str(limit), "faces": faces.value, "detail": detail}
    fields["min_confidence"] = str(min_confidence)
    if threshold is not None:
        fields["min_similarity"] = str(threshold)

    @asynccontextmanager
    async def prepare(settings: Settings) -> AsyncIterator[Order]:
        async with open_service(options, settings, api_key_file) as service:
            await need_collection(service, collection)
            yield SearchOrder(service, collection, fields)

    carry_out(options, prepare, parallel=parallel)

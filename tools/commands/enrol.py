"""`aurum enrol`: enrol the faces of many photos."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.settings import Settings
from tools.batch import options as given
from tools.batch.command import carry_out, open_service
from tools.batch.orders import EnrolOrder, Order, need_collection
from tools.batch.subjects import SubjectFrom, open_subjects

app = typer.Typer(add_completion=False)


class Enrolled(StrEnum):
    """Which faces of a photo to enrol."""

    LARGEST = "largest"
    SINGLE = "single"


class Gate(StrEnum):
    """Lowest quality of a face."""

    OFF = "off"
    STANDARD = "standard"
    STRICT = "strict"


@app.command("enrol", cls=given.BatchCommand, epilog=given.EXIT_STATUSES)
def enrol(
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="Name of the collection.")
    ],
    paths: given.Paths,
    *,
    subject_from: Annotated[
        SubjectFrom,
        typer.Option(
            help="`folder` that holds the photo; `name` of the file without a number at its end; "
            "`csv`."
        ),
    ] = SubjectFrom.FOLDER,
    csv: Annotated[
        Path | None, typer.Option(help="Table with the columns path, subject[, display_name].")
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the collection if it does not exist.")
    ] = False,
    faces: Annotated[
        Enrolled, typer.Option(help="`single` refuses photos with several faces.")
    ] = Enrolled.LARGEST,
    quality: Annotated[
        Gate | None, typer.Option(help="Lowest quality of a face; default: the collection's.")
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(help="JSON: reference, given_at, expires_at; kept with each subject."),
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="Why they are enrolled; kept with each subject.")
    ] = None,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
    parallel: given.Parallel = 8,
    from_list: given.FromList = False,
    output: given.Output = None,
    resume: given.Resume = False,
    format_: given.FormatOption = None,
    draw: given.Draw = None,
    html: given.Html = None,
) -> None:
    """Enrol the faces of many photos into COLLECTION.

    The same photo for the same subject is enrolled once, however often the command runs.
    Enrolling needs the service.
    """
    options = given.Options(paths, from_list, url, parallel, output, resume, format_, draw, html)
    fields = {"faces": faces.value}
    if quality is not None:
        fields["quality"] = quality.value
    if consent is not None:
        fields["consent"] = consent
    if purpose is not None:
        fields["purpose"] = purpose

    @asynccontextmanager
    async def prepare(settings: Settings) -> AsyncIterator[Order]:
        subjects = open_subjects(subject_from, csv)
        async with open_service(options, settings, api_key_file) as service:
            await need_collection(service, collection, create=create)
            yield EnrolOrder(service, collection, subjects, fields)

    carry_out(options, prepare, parallel=parallel)

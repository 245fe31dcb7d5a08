"""`aurum score`: rate the faces of many photos."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from gateway.settings import Settings
from tools.batch import options as given
from tools.batch.command import carry_out, open_service
from tools.batch.orders import Order, ScoreOrder, score_path
from tools.batch.service import Request
from tools.errors import BatchError
from triton_python_backend import contract

app = typer.Typer(add_completion=False)


@app.command("score", cls=given.BatchCommand, epilog=given.EXIT_STATUSES)
def score(
    paths: given.Paths,
    *,
    local: Annotated[
        bool,
        typer.Option(
            "--local", help="Run the networks of AURUM_MODEL_REPOSITORY here, without a service."
        ),
    ] = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
    parallel: given.Parallel = 8,
    from_list: given.FromList = False,
    output: given.Output = None,
    resume: given.Resume = False,
    format_: given.FormatOption = None,
    draw: given.Draw = None,
    html: given.Html = None,
    max_faces: given.MaxFaces = None,
    min_confidence: given.MinConfidence = contract.MIN_CONFIDENCE,
    detail: given.Detailed = "standard",
) -> None:
    """Rate the faces of many photos, through the service or without it.

    Each input gives one line with its name, SHA-256, outcome and answer. Files that are no images
    are skipped and counted.
    """
    options = given.Options(paths, from_list, url, parallel, output, resume, format_, draw, html)
    selection = given.FaceSelection(max_faces, min_confidence, detail)

    @asynccontextmanager
    async def prepare(settings: Settings) -> AsyncIterator[Order]:
        if not local:
            path = score_path(selection)
            async with open_service(options, settings, api_key_file) as service:
                yield ScoreOrder(lambda image: service.ask(Request(path, image=image)))
            return
        if url is not None:
            raise BatchError("--local asks no service: leave out --url")
        # OpenCV and ONNX Runtime take a second to load
        from tools.batch.local import LocalEngine

        engine = LocalEngine(settings, selection, parallel=parallel)
        try:
            yield ScoreOrder(engine.score)
        finally:
            engine.close()

    # the service waits for others, this process only for itself
    at_once = min(parallel, os.cpu_count() or 1) if local else parallel
    carry_out(options, prepare, parallel=at_once)

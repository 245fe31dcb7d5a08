"""`aurum models`: weights into service."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from tools.importing.arcface import USUAL, Normalisation
from tools.importing.errors import WeightsError
from tools.importing.importer import Order, import_weights
from tools.importing.repository import ModelCard

app = typer.Typer(no_args_is_help=True, help="Put weights into service.")


@app.callback()
def _group() -> None:
    """Put weights into service."""


@app.command("import")
def import_command(
    *,
    detection: Annotated[Path | None, typer.Option(help="SCRFD detector, ONNX.")] = None,
    embedding: Annotated[Path | None, typer.Option(help="ArcFace network, ONNX.")] = None,
    scoring: Annotated[Path | None, typer.Option(help="Scoring head, ONNX.")] = None,
    version: Annotated[int | None, typer.Option(help="Version; else the next free one.")] = None,
    repository: Annotated[Path | None, typer.Option(help="Else AURUM_MODEL_REPOSITORY.")] = None,
    space: Annotated[
        str | None,
        typer.Option(help="Space the head was trained in: 16 digits, a version, or 'active'."),
    ] = None,
    mean: Annotated[
        float | None, typer.Option(help="The embedding's pixels: (x-mean)/std.")
    ] = None,
    std: Annotated[float | None, typer.Option(help="The embedding's pixels: (x-mean)/std.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, noted.")] = None,
) -> None:
    """Check weights, make them ready for Triton and place them as new versions: all or none."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    normalisation = None
    if mean is not None or std is not None:
        normalisation = Normalisation(
            USUAL.mean if mean is None else mean, USUAL.std if std is None else std
        )
    order = Order(detection, embedding, scoring, version, space, normalisation, licence)
    try:
        target = repository or load_settings().model_repository
        with errors.status("importing") as status:
            cards = import_weights(order, target, lambda text: status.update(text))
    except (WeightsError, ConfigurationError) as error:
        errors.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error
    Console().print(_table(cards))


def _table(cards: list[ModelCard]) -> Table:
    table = Table(title="placed")
    for heading in ("stage", "version", "id"):
        table.add_column(heading, no_wrap=True)
    for heading in ("network", "made from"):
        table.add_column(heading, overflow="fold")
    for card in cards:
        table.add_row(card.stage, str(card.version), card.id, card.network, card.source.file)
    return table

"""`aurum models card`: the model card of measured values."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from tools.cards.render import render_card


def card(
    measured: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="JSON with the measurements of a training."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Markdown file to write; default beside the JSON.")
    ] = None,
) -> None:
    """Render the model card of a built-in network from its measurements."""
    try:
        text = render_card(orjson.loads(measured.read_bytes()))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        Console(stderr=True).print(f"error: {measured} holds no measured values: {error!r}")
        raise typer.Exit(1) from error
    target = out or measured.with_suffix(".md")
    target.write_text(text)
    Console().print(f"{target} written")

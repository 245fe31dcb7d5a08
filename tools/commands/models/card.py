"""`aurum models card`: the model card of measured values."""

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from tools.cards.render import render_card


def card(
    measured: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="JSON that training has measured.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The Markdown file; else beside the JSON.")
    ] = None,
) -> None:
    """Render the card of a built-in network from what was measured of it."""
    try:
        text = render_card(orjson.loads(measured.read_bytes()))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        Console(stderr=True).print(f"error: {measured} holds no measured values: {error!r}")
        raise typer.Exit(1) from error
    target = out or measured.with_suffix(".md")
    target.write_text(text)
    Console().print(f"{target} written")

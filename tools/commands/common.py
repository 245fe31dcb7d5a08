"""What commands share: their settings, lines beside the output, the end by an error."""

from typing import NoReturn

import typer
from rich.console import Console

from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from tools.serving.home import resolve


def read_settings() -> Settings:
    """Read the settings, with absolute folders; a wrong one ends the command."""
    try:
        return resolve(load_settings())
    except ConfigurationError as error:
        fail(error)


def note(text: str, style: str | None = None) -> None:
    """Print a line to standard error, which is not part of the output."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style=style, markup=False)


def fail(reason: object) -> NoReturn:
    """End the command with a line and exit status 1."""
    note(f"error: {reason}")
    raise typer.Exit(1)

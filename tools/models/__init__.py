"""`aurum models`: weights into service, out of it, and what is the case; a module per command."""

import typer

from tools.models import (
    calibrating,
    cards,
    importing,
    inspecting,
    optimising,
    packs,
    references,
    swapping,
    trying,
)

app = typer.Typer(no_args_is_help=True, help="Put weights into service, or out of it.")
for module in (
    packs,
    inspecting,
    importing,
    swapping,
    trying,
    calibrating,
    references,
    cards,
    optimising,
):
    module.register(app)

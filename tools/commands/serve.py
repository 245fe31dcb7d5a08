"""`aurum serve`, `up`, `down`, `status`: run the stack in the foreground or behind."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from tools.commands.common import fail, read_settings
from tools.serving import background
from tools.serving.errors import ServingError
from tools.serving.home import Home
from tools.serving.stack import Stack


class What(StrEnum):
    """What `aurum serve` runs."""

    ALL = "all"
    TRITON = "triton"
    WORKER = "worker"


def serve(
    what: Annotated[
        What, typer.Argument(help="All, Triton only, or workers for jobs on any machine.")
    ] = What.ALL,
    number: Annotated[int, typer.Option(min=1, max=64, help="Of workers, with `worker` only.")] = 1,
) -> None:
    """Run in the foreground until Ctrl-C."""
    if what is What.WORKER:
        _serve_workers(number)
        return
    stack = Stack(read_settings(), "triton" if what is What.TRITON else "all")
    try:
        stack.serve(report=_say)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except ServingError as error:
        fail(error)


def _serve_workers(number: int) -> None:
    """Run workers that reach records, images and Triton as the settings say."""
    # loads what only supervisors need
    from tools.serving.workers import serve_workers

    try:
        serve_workers(read_settings(), number, report=_say)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except ServingError as error:
        fail(error)


def up() -> None:
    """Start everything in the background; return when it is ready.

    If it runs already, this succeeds with a note.
    """
    try:
        background.start(Stack(read_settings(), "all"), report=_say)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except ServingError as error:
        fail(error)


def down() -> None:
    """Stop everything and verify that no process is left."""
    home = Home(read_settings().home)
    try:
        _say("Stopped" if background.stop(home) else f"{home.root} was not served")
    except ServingError as error:
        fail(error)


def status() -> None:
    """Show what runs; the exit status is 0 only if it is ready."""
    ready, lines = background.describe(Home(read_settings().home))
    for line in lines:
        _say(line)
    raise typer.Exit(0 if ready else 1)


def _say(line: str) -> None:
    Console(soft_wrap=True, highlight=False, markup=False).print(line)

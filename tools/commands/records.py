"""`aurum records`: take the tables back, for a release from before."""

import asyncio
from typing import Annotated

import typer

from gateway.errors import AurumError, ConfigurationError
from gateway.records.factory import take_back
from tools.commands.common import fail, read_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Take the tables back.")


@app.callback()
def _group() -> None:
    """Take the tables back."""


@app.command()
def downgrade(
    revision: Annotated[
        str, typer.Argument(metavar="NNNN", help="The tables wanted: 0006 or a later one.")
    ],
) -> None:
    """Take the tables back to those of an earlier release, all in one transaction.

    Stop gateways and workers and make a backup first. It is refused if the earlier tables have no
    place for what is stored (consents, erasures, sealed metadata, limits of keys).
    """
    try:
        asyncio.run(take_back(read_settings(), revision))
    except (AurumError, ConfigurationError, OSError) as error:
        fail(error)
    typer.echo(f"The tables are those of {revision}.")

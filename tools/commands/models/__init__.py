"""`aurum models`: weights into service, out of it, and what is the case; a module per command."""

import typer

from tools.commands.models import (
    activate,
    calibrate,
    card,
    import_,
    optimise,
    pull,
    reference,
    status,
    trial,
)

app = typer.Typer(no_args_is_help=True, help="Put weights into service, or out of it.")
for module in (
    pull,
    status,
    import_,
    activate,
    trial,
    calibrate,
    reference,
    card,
    optimise,
):
    module.register(app)

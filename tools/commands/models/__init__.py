"""`aurum models`: weights into service, out of it, and their state; a module per command."""

import typer

from tools.commands.lazy import Entry, lazy_group

COMMANDS = {
    "list": Entry(
        f"{__name__}.pull",
        "list_packs",
        "Show the packs that can be pulled: networks, size, licence, and which are here.",
        "models",
    ),
    "pull": Entry(
        f"{__name__}.pull",
        "pull",
        "Fetch a pack and put its networks into service as the next versions.",
        "models",
    ),
    "status": Entry(
        f"{__name__}.status",
        "status",
        "Show every version: where it is, its id and space, its digest, what Triton says.",
        "models",
    ),
    "verify": Entry(
        f"{__name__}.status",
        "verify",
        "Check digests, load every version, kept ones too, and run it; status 1 if one fails.",
        "models",
    ),
    "import": Entry(
        f"{__name__}.import_",
        "import_command",
        "Check weights, make them ready for Triton and place them as new versions: all or none.",
        "models",
    ),
    "activate": Entry(
        f"{__name__}.activate",
        "activate",
        "Put a version that was taken out, or an older one, into service, or on trial first.",
        "models",
    ),
    "rollback": Entry(
        f"{__name__}.activate",
        "rollback",
        "Return to what was in service before; what served until now is kept.",
        "models",
    ),
    "remove": Entry(
        f"{__name__}.remove",
        "remove",
        "Delete a version that is not in service and that no collection needs.",
        "serve",
    ),
    "promote": Entry(
        f"{__name__}.trial",
        "promote",
        "Put the version being tried into service; `rollback` returns to the one before.",
        "models",
    ),
    "abort": Entry(
        f"{__name__}.trial",
        "abort",
        "End the trial: the version in service answers all requests again.",
        "models",
    ),
    "calibrate": Entry(
        f"{__name__}.calibrate",
        "calibrate",
        "Measure FMR and FNMR on labelled photos with the running gateway, and keep them.",
        "models",
    ),
    "reference": Entry(
        f"{__name__}.reference",
        "reference",
        "Measure the newest versions on photos like yours, as the reference that drift is from.",
        "models",
    ),
    "card": Entry(
        f"{__name__}.card",
        "card",
        "Render the card of a built-in network from what was measured of it.",
        "models",
    ),
    "optimise": Entry(
        f"{__name__}.optimise",
        "optimise",
        "Write configurations of the ONNX stages for a GPU: CUDA, TensorRT, and with CUDA graphs.",
        "models",
    ),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    help="Put weights into service, or out of it.",
)


@app.callback()
def _group() -> None:
    pass

"""`aurum models`: weights into service, out of it, and their state; a module per command."""

import typer

from tools.commands.lazy import Entry, lazy_group

COMMANDS = {
    "list": Entry(
        f"{__name__}.pull",
        "list_packs",
        "List the packs: networks, size, licence, and whether they are downloaded.",
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
        "Show every version: place, id, space, digest, and its state in Triton.",
        "models",
    ),
    "verify": Entry(
        f"{__name__}.status",
        "verify",
        "Check the digest of every version, load and run it; exit status 1 if one fails.",
        "models",
    ),
    "import": Entry(
        f"{__name__}.import_",
        "import_command",
        "Check weights, prepare them for Triton and place them as new versions: all or none.",
        "models",
    ),
    "activate": Entry(
        f"{__name__}.activate",
        "activate",
        "Put a kept or older version into service, or on trial first.",
        "models",
    ),
    "rollback": Entry(
        f"{__name__}.activate",
        "rollback",
        "Return to the version that served before; the current one is kept.",
        "models",
    ),
    "remove": Entry(
        f"{__name__}.remove",
        "remove",
        "Delete a version that is not in service and that no collection uses.",
        "serve",
    ),
    "promote": Entry(
        f"{__name__}.trial",
        "promote",
        "Put the version on trial into service; `rollback` returns to the one before.",
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
        "Measure FMR and FNMR on labelled photos with the running gateway and store them.",
        "models",
    ),
    "reference": Entry(
        f"{__name__}.reference",
        "reference",
        "Measure the newest versions on typical photos, as the reference for drift.",
        "serve",
    ),
    "card": Entry(
        f"{__name__}.card",
        "card",
        "Render the model card of a built-in network from its measurements.",
        "models",
    ),
    "optimise": Entry(
        f"{__name__}.optimise",
        "optimise",
        "Write configurations of the ONNX stages for a GPU: CUDA, TensorRT, CUDA graphs.",
        "models",
    ),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    help="Put weights into service and take them out.",
)


@app.callback()
def _group() -> None:
    pass

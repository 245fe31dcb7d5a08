"""The `aurum` command line."""

import typer

from tools.commands.lazy import Entry, lazy_group

COMMANDS = {
    "serve": Entry("tools.commands.serve", "serve", "Run in the foreground until Ctrl-C.", "serve"),
    "up": Entry(
        "tools.commands.serve",
        "up",
        "Start everything in the background; return when it answers.",
        "serve",
    ),
    "down": Entry(
        "tools.commands.serve",
        "down",
        "Stop what runs, and verify that nothing of it is left.",
        "serve",
    ),
    "status": Entry(
        "tools.commands.serve",
        "status",
        "Say what runs; the exit status is 0 only if it is ready.",
        "serve",
    ),
    "draw": Entry(
        "tools.commands.draw",
        "draw",
        "Ask the gateway for the faces of PHOTO and draw them into PICTURE.",
        "serve",
    ),
    "models": Entry(
        "tools.commands.models", "app", "Put weights into service, or out of it.", "models"
    ),
    "heads": Entry("tools.commands.heads", "app", "Make scoring heads.", "heads"),
    "vectors": Entry("tools.commands.vectors", "app", "Look after remembered faces.", "serve"),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    help="Aurum: faces by Triton.",
)


@app.callback()
def _aurum() -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

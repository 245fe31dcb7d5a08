"""The `aurum` command line."""

import typer

from tools.commands.lazy import Entry, lazy_group

COMMANDS = {
    "serve": Entry("tools.commands.serve", "serve", "Run in the foreground until Ctrl-C.", "serve"),
    "up": Entry(
        "tools.commands.serve",
        "up",
        "Start everything in the background; return when it is ready.",
        "serve",
    ),
    "down": Entry(
        "tools.commands.serve",
        "down",
        "Stop everything and verify that no process is left.",
        "serve",
    ),
    "status": Entry(
        "tools.commands.serve",
        "status",
        "Show what runs; the exit status is 0 only if it is ready.",
        "serve",
    ),
    "draw": Entry(
        "tools.commands.draw",
        "draw",
        "Ask the gateway for the faces of PHOTO and draw them into PICTURE.",
        "serve",
    ),
    "score": Entry(
        "tools.commands.score",
        "app",
        "Rate the faces of many photos, through the service or without it.",
        "serve",
    ),
    "enrol": Entry(
        "tools.commands.enrol",
        "app",
        "Enrol the faces of many photos into COLLECTION.",
        "serve",
    ),
    "search": Entry(
        "tools.commands.search",
        "app",
        "Search COLLECTION for the faces of many photos.",
        "serve",
    ),
    "jobs": Entry(
        "tools.commands.jobs",
        "app",
        "Process many photos in the background: submit, watch, read results.",
        "serve",
    ),
    "models": Entry(
        "tools.commands.models", "app", "Put weights into service and take them out.", "models"
    ),
    "heads": Entry("tools.commands.heads", "app", "Train scoring heads.", "heads"),
    "keys": Entry(
        "tools.commands.keys",
        "app",
        "Create, list, limit, rotate and revoke API keys; rotate storage keys.",
        "serve",
    ),
    "audit": Entry(
        "tools.commands.audit",
        "app",
        "Show the head of the audit log, verify it, export it.",
        "serve",
    ),
    "records": Entry("tools.commands.records", "app", "Take the tables back.", "serve"),
    "subjects": Entry(
        "tools.commands.subjects",
        "app",
        "Find a person in all collections, export or erase what is stored, refuse enrolment.",
        "serve",
    ),
    "backup": Entry(
        "tools.commands.backup",
        "app",
        "Back up everything that must survive, verify backups, restore them.",
        "serve",
    ),
    "deploy": Entry(
        "tools.commands.deploy",
        "app",
        "Deploy with containers: check, build, start, prove; back if anything fails.",
        "serve",
    ),
    "vectors": Entry(
        "tools.commands.vectors",
        "app",
        "Move, check and migrate the vectors of enrolled faces.",
        "serve",
    ),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    help="Aurum: face inference on NVIDIA Triton.",
)


@app.callback()
def _aurum() -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

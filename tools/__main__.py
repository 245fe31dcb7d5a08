"""The `aurum` command line."""

import typer

from tools import serve

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Aurum: faces by Triton.")
serve.register(app)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

"""The `aurum` command line."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Aurum: faces by Triton.")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

"""The `aurum` command line."""

import typer

from tools.commands import draw, heads, models, serve, vectors

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Aurum: faces by Triton.")
serve.register(app)
app.add_typer(models.app, name="models")
app.add_typer(heads.app, name="heads")
app.add_typer(vectors.app, name="vectors")
app.command()(draw.draw)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

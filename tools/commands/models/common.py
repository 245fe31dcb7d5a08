"""What the commands share: settings, the version store, output and errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from tools.errors import CalibrationError, LifecycleError, PackError, WeightsError
from tools.registry.version_store import VersionStore
from tools.serving.home import resolve

Repository = Annotated[Path | None, typer.Option(help="Else AURUM_MODEL_REPOSITORY.")]


@dataclass(frozen=True, slots=True)
class Context:
    """What a command works on."""

    settings: Settings
    version_store: VersionStore
    out: Console
    errors: Console


@contextmanager
def opened(repository: Path | None = None) -> Iterator[Context]:
    """Read the settings; a refusal inside becomes one line and exit status 1."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        settings = resolve(load_settings())
        folder = settings.model_repository if repository is None else repository.resolve()
        yield Context(
            settings,
            VersionStore(folder, settings.home),
            Console(highlight=False, soft_wrap=True),
            errors,
        )
    except (
        WeightsError,
        LifecycleError,
        PackError,
        CalibrationError,
        ConfigurationError,
    ) as error:
        errors.print(f"error: {error}", markup=False)
        raise typer.Exit(1) from error

"""`aurum deploy`: put a release into service with containers, go back, look."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from gateway.errors import ConfigurationError
from gateway.settings import CHECKOUT, Settings, load_settings
from tools.clients.api_key import key_headers
from tools.deploying import display
from tools.deploying.compose_engine import ComposeEngine
from tools.deploying.deployment import Deployer
from tools.deploying.engine import Project
from tools.deploying.environment import Needs
from tools.deploying.errors import DeployError
from tools.deploying.interrupts import StoppedError
from tools.deploying.journal import Journal
from tools.deploying.output import Output
from tools.deploying.preparation import Order
from tools.serving.home import resolve

_NO_ENGINE: Final = (
    "docker or podman is needed, and neither is installed: install Docker Engine with its Compose "
    "plugin (https://docs.docker.com/engine/install/), or Podman and docker-compose"
)
"""The Makefile says the same before it installs anything."""
_ENV_FILE: Final = ".env"
_EXIT_STATUSES: Final = (
    "Exit status: 0 the release runs; 1 it failed, and the one before runs; "
    "2 going back failed, too."
)


class Program(StrEnum):
    """Engines."""

    DOCKER = "docker"
    PODMAN = "podman"


app = typer.Typer(
    add_completion=False,
    help="Deploy with containers: check, build, start, prove; back if anything fails.",
)
EngineOption = Annotated[
    Program | None,
    typer.Option("--engine", help="Default: docker, or podman where there is no docker."),
]
StartSeconds = Annotated[
    float, typer.Option(min=1, help="Longest time until all containers are healthy.")
]
PhotoSeconds = Annotated[
    float, typer.Option(min=1, help="Longest time until the photo is answered rightly.")
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(help="File with the gateway's API key; default: AURUM_API_KEY(_FILE)."),
]
Url = Annotated[
    str | None,
    typer.Option(help="Address of the gateway for the photo; default: its published port."),
]


@app.callback(invoke_without_command=True, epilog=_EXIT_STATUSES)
def deploy(
    context: typer.Context,
    *,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file", help="Compose file; repeat for several. Default: docker-compose.yml."
        ),
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="Compose profile, such as gpu; repeat.")
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(help="Variables; default: .env beside the first file, if any.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Name of the Compose project.")] = None,
    engine: EngineOption = None,
    build: Annotated[bool, typer.Option(help="Build the images that have a `build`.")] = True,
    pull: Annotated[bool, typer.Option(help="Fetch the other images.")] = True,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
    start_seconds: StartSeconds = 300.0,
    photo_seconds: PhotoSeconds = 60.0,
    free_disk_gib: Annotated[float, typer.Option(min=0, help="Least free disk, in GiB.")] = 10.0,
    free_memory_gib: Annotated[float, typer.Option(min=0, help="Least free memory, in GiB.")] = 2.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and say what would be done.")
    ] = False,
) -> None:
    """Deploy with containers: check, build, start, prove; back if anything fails."""
    if context.invoked_subcommand is not None:
        return
    files = tuple(each.resolve() for each in file or [CHECKOUT / "docker-compose.yml"])
    beside = files[0].parent / _ENV_FILE
    with _told() as output:
        settings = _settings()
        order = Order(
            project=Project(
                folder=files[0].parent,
                files=_existing(files),
                env_file=env_file.resolve() if env_file else beside if beside.is_file() else None,
                profiles=tuple(profile or ()),
                name=project,
            ),
            needs=Needs(free_disk_gib, free_memory_gib),
            url=url,
            headers=key_headers(settings, api_key_file),
            build=build,
            pull=pull,
            start_seconds=start_seconds,
            photo_seconds=photo_seconds,
        )
        if dry_run:
            planning = Output(output.say, verbose=True)
            Deployer(
                ComposeEngine(_program(engine), log=planning.log, dry_run=True),
                settings,
                order,
                planning,
            ).plan()
            return
        release = Deployer(
            ComposeEngine(_program(engine), log=output.log), settings, order, output
        ).deploy()
        for line in display.summary(release, Journal(settings.home)):
            output.say(line)


@app.command(epilog=_EXIT_STATUSES)
def rollback(
    release: Annotated[
        int | None, typer.Argument(metavar="N", help="Default: the one before the current one.")
    ] = None,
    *,
    engine: EngineOption = None,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
    start_seconds: StartSeconds = 300.0,
    photo_seconds: PhotoSeconds = 60.0,
) -> None:
    """Put an earlier release into service: its images, models and configuration."""
    with _told() as output:
        settings = _settings()
        order = Order(
            project=Project(settings.home, ()),
            needs=Needs(0, 0),
            url=url,
            headers=key_headers(settings, api_key_file),
            build=False,
            pull=False,
            start_seconds=start_seconds,
            photo_seconds=photo_seconds,
        )
        deployer = Deployer(
            ComposeEngine(_program(engine), log=output.log), settings, order, output
        )
        for line in display.summary(deployer.roll_back(release), Journal(settings.home)):
            output.say(line)


@app.command()
def status(*, engine: EngineOption = None) -> None:
    """Show the release that runs, its containers, and the last deployments."""
    with _told() as output:
        settings = _settings()
        asked = ComposeEngine(_program(engine), log=output.log)
        well, lines = display.status(Journal(settings.home), asked, settings.home)
        for line in lines:
            output.say(line)
        if not well:
            raise typer.Exit(1)


@app.command()
def logs(
    number: Annotated[
        int | None, typer.Argument(metavar="N", help="Of the deployment; default: the last one.")
    ] = None,
) -> None:
    """Show the log of a deployment."""
    with _told():
        sys.stdout.write(display.log_text(Journal(_settings().home), number))


@contextmanager
def _told() -> Iterator[Output]:
    """Print what is said, and errors as one line."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        yield Output(console.print)
    except DeployError as error:
        errors.print(f"error: {error}")
        raise typer.Exit(error.exit_status) from None
    except (ConfigurationError, StoppedError) as error:
        errors.print(f"error: {error}")
        raise typer.Exit(1) from None
    except OSError as error:
        # of this command's own files: those of a deployment are dealt with where they are used
        errors.print(f"error: {error}")
        raise typer.Exit(1) from None


def _settings() -> Settings:
    return resolve(load_settings())


def _program(given: Program | None) -> str:
    if given is not None:
        return given.value
    for program in Program:
        if shutil.which(program.value):
            return program.value
    raise DeployError(_NO_ENGINE)


def _existing(files: tuple[Path, ...]) -> tuple[Path, ...]:
    for each in files:
        if not each.is_file():
            raise DeployError(f"--file: {each} is no file")
    return files

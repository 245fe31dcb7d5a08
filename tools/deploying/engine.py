"""What a deployment asks of a container engine: one small interface, whatever the engine is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Project:
    """What Compose is called with.

    folder: relative paths in the files start here. name: of the project; None lets Compose choose.
    """

    folder: Path
    files: tuple[Path, ...]
    env_file: Path | None = None
    profiles: tuple[str, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine says about itself.

    root: folder of its images on this machine, if it lies here. runtimes: names, for GPUs.
    """

    version: str
    compose_version: str
    root: Path | None
    runtimes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this machine.

    id: `sha256:…`. digests: `name@sha256:…` in registries. user: `uid:gid` or a name; may be empty.
    """

    id: str
    digests: tuple[str, ...]
    user: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a project.

    state: `running`, `exited`, `created`, `restarting`, `paused`, `dead`, `removing`. health:
    `healthy`, `unhealthy`, `starting`; empty without a health check. ports: published ones.
    """

    name: str
    service: str
    image: str
    state: str
    health: str
    exit_code: int
    ports: tuple[int, ...]

    @property
    def has_failed(self) -> bool:
        """Whether it ended, and not well."""
        return self.state == "dead" or (self.state == "exited" and self.exit_code != 0)

    @property
    def is_unwatched(self) -> bool:
        """Whether it runs, and nothing says whether it is healthy."""
        return self.state == "running" and not self.health

    @property
    def is_well(self) -> bool:
        """Whether it runs and is healthy, or did what it had to do once."""
        if self.state == "exited":
            return self.exit_code == 0
        return self.state == "running" and self.health in ("", "healthy")


class Engine(Protocol):
    """Calls of an engine; each raises EngineError if the engine refuses."""

    def facts(self) -> Facts:
        """Ask for versions, the folder of images, and runtimes."""

    def configuration(self, project: Project) -> Mapping[str, Any]:
        """Resolve the files of a project: variables filled in, paths absolute, `$` as `$$`."""

    def pull(self, project: Project) -> None:
        """Fetch the images that are not built here."""

    def build(self, project: Project) -> None:
        """Build the images that have a `build` section."""

    def image(self, name: str) -> Image | None:
        """Find an image on this machine by name or id; None if there is none."""

    def tag(self, image: str, name: str) -> None:
        """Give an image a further name."""

    def untag(self, name: str) -> None:
        """Remove a name, and the image with its last one."""

    def up(self, project: Project) -> None:
        """Start a project, replace containers that changed, remove those that are not in it."""

    def containers(self, project: Project) -> list[Container]:
        """List the containers of a project, also those that ended."""

    def logs(self, project: Project, *, lines: int) -> str:
        """Read the last lines of each container."""

    def restarts(self, names: Sequence[str]) -> Mapping[str, int]:
        """Count how often the engine started containers again that ended, by name."""

    def run_in(self, project: Project, service: str, command: Sequence[str]) -> str:
        """Run a command in a container that runs; returns its output, which nothing logs."""

    def down(self, project: Project) -> None:
        """Stop and remove the containers of a project; volumes stay."""

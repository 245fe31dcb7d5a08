"""Docker or Podman with Compose, called as programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tools.deploying.commands import Log, ask, carry_out
from tools.deploying.engine import Container, Facts, Image, Project
from tools.deploying.errors import EngineError

_BUILD_SECONDS: Final = 3600.0
_START_SECONDS: Final = 600.0
_MISSING: Final = ("no such image", "image not known", "no such object", "failed to find image")
_OLDEST_COMPOSE: Final = (2, 34)
"""Images that grow from the image of another service (`additional_contexts`) need it."""


class ComposeEngine:
    """An engine by its program, `docker` or `podman`.

    Compose is the engine's own (`docker compose`), or the program `docker-compose` from version 2
    on. dry_run: calls that change something are only logged.
    """

    def __init__(self, program: str, *, log: Log, dry_run: bool = False) -> None:
        """Find nothing yet; the first call asks for Compose."""
        self.program = program
        self._log = log
        self._dry_run = dry_run
        self._found: tuple[tuple[str, ...], str] | None = None

    def facts(self) -> Facts:
        """Ask for versions, the folder of images, and runtimes."""
        form = "json" if self.program == "podman" else "{{json .}}"
        text = self._ask("info", "--format", form)
        with _understood("info"):
            about = json.loads(text)
            if self.program == "podman":
                version, root = about["version"]["Version"], about["store"]["graphRoot"]
                runtimes = [about["host"]["ociRuntime"]["name"]]
            else:
                if errors := about.get("ServerErrors"):
                    raise EngineError(f"{self.program} does not run: {errors[0]}")
                version, root = about.get("ServerVersion", ""), about.get("DockerRootDir")
                runtimes = list(about.get("Runtimes") or {})
        return Facts(version, self._compose()[1], root and Path(root), tuple(runtimes))

    def configuration(self, project: Project) -> Mapping[str, Any]:
        """Resolve the files of a project: variables filled in, paths absolute, `$` as `$$`."""
        text = self._ask_compose(project, "config", "--format", "json")
        with _understood("config"):
            found: Mapping[str, Any] = json.loads(text)
        return found

    def pull(self, project: Project) -> None:
        """Fetch the images that are not built here."""
        self._change_compose(project, "pull", "--ignore-buildable", limit_seconds=_BUILD_SECONDS)

    def build(self, project: Project) -> None:
        """Build the images that have a `build` section."""
        self._change_compose(project, "build", limit_seconds=_BUILD_SECONDS)

    def image(self, name: str) -> Image | None:
        """Find an image on this machine by name or id; None if there is none."""
        try:
            text = self._ask("image", "inspect", name)
        except EngineError as error:
            if any(words in str(error).lower() for words in _MISSING):
                return None
            raise
        with _understood("image inspect"):
            found = json.loads(text)[0]
            # Podman leaves the prefix out
            digest = found["Id"].removeprefix("sha256:")
            user = (found.get("Config") or {}).get("User") or ""
            return Image(f"sha256:{digest}", tuple(found.get("RepoDigests") or ()), user)

    def tag(self, image: str, name: str) -> None:
        """Give an image a further name."""
        self._change("tag", image, name)

    def untag(self, name: str) -> None:
        """Remove a name, and the image with its last one."""
        self._change("rmi", name)

    def up(self, project: Project) -> None:
        """Start a project, replace containers that changed, remove those that are not in it."""
        self._change_compose(
            project,
            *("up", "--detach", "--no-build", "--remove-orphans"),
            limit_seconds=_START_SECONDS,
        )

    def containers(self, project: Project) -> list[Container]:
        """List the containers of a project, also those that ended."""
        text = self._ask_compose(project, "ps", "--all", "--format", "json").strip()
        with _understood("ps"):
            return [_container(json.loads(line)) for line in text.splitlines()]

    def logs(self, project: Project, *, lines: int) -> str:
        """Read the last lines of each container."""
        return self._ask_compose(project, "logs", "--no-color", "--tail", str(lines))

    def restarts(self, names: Sequence[str]) -> Mapping[str, int]:
        """Count how often the engine started containers again that ended, by name."""
        if not names:
            return {}
        form = "{{.RestartCount}}"
        text = self._ask("inspect", "--type", "container", "--format", form, *names)
        with _understood("inspect"):
            return dict(zip(names, map(int, text.split()), strict=True))

    def run_in(self, project: Project, service: str, command: Sequence[str]) -> str:
        """Run a command in a container that runs; returns its output, which nothing logs."""
        # the engine keeps what containers write, and not what is run in them
        return self._ask_compose(project, "exec", "-T", service, *command)

    def down(self, project: Project) -> None:
        """Stop and remove the containers of a project; volumes stay."""
        self._change_compose(project, "down", "--remove-orphans", limit_seconds=_START_SECONDS)

    def _compose(self) -> tuple[tuple[str, ...], str]:
        if self._found is None:
            reasons = []
            for command in ((self.program, "compose"), ("docker-compose",)):
                try:
                    version = ask([*command, "version", "--short"], log=self._log).strip()
                except EngineError as error:
                    reasons.append(str(error))
                    continue
                version = version.splitlines()[-1].strip().removeprefix("v") if version else ""
                if _numbers(version) >= _OLDEST_COMPOSE:
                    self._found = command, version
                    break
                reasons.append(f"{' '.join(command)} is version {version or 'unknown'}")
            else:
                oldest = ".".join(map(str, _OLDEST_COMPOSE))
                raise EngineError(
                    f"Compose from version {oldest} on is needed, as a plugin of {self.program} or "
                    f"as docker-compose (https://docs.docker.com/compose/install/): "
                    f"{'; '.join(reasons)}"
                )
        return self._found

    def _ask(self, *arguments: str) -> str:
        return ask([self.program, *arguments], log=self._log)

    def _ask_compose(self, project: Project, *arguments: str) -> str:
        return ask(self._of(project, arguments), log=self._log)

    def _change(self, *arguments: str) -> None:
        self._carry_out([self.program, *arguments], 60.0)

    def _change_compose(self, project: Project, *arguments: str, limit_seconds: float) -> None:
        self._carry_out(self._of(project, arguments), limit_seconds)

    def _carry_out(self, command: Sequence[str], limit_seconds: float) -> None:
        if self._dry_run:
            self._log(f"would run: {' '.join(command)}")
            return
        carry_out(command, log=self._log, limit_seconds=limit_seconds)

    def _of(self, project: Project, arguments: Sequence[str]) -> list[str]:
        command = [*self._compose()[0], "--project-directory", str(project.folder)]
        for file in project.files:
            command += ["--file", str(file)]
        if project.env_file is not None:
            command += ["--env-file", str(project.env_file)]
        for profile in project.profiles:
            command += ["--profile", profile]
        if project.name is not None:
            command += ["--project-name", project.name]
        return [*command, *arguments]


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Say in one line that an answer has another form, which a way back must not stumble over."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EngineError(f"the answer to `{what}` is not understood: {error!r:.200}") from None


def _numbers(version: str) -> tuple[int, ...]:
    """Read `2.34.0-desktop.1` as (2, 34); nothing if it is no version."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def _container(row: Mapping[str, Any]) -> Container:
    published = {each.get("PublishedPort", 0) for each in row.get("Publishers") or ()} - {0}
    return Container(
        name=row["Name"],
        service=row["Service"],
        image=row["Image"],
        state=row["State"],
        health=row.get("Health") or "",
        exit_code=int(row.get("ExitCode") or 0),
        ports=tuple(sorted(published)),
    )

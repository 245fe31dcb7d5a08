"""Wait until all containers of a project are well."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tools.deploying.engine import Container, Engine, Project
from tools.deploying.errors import DeployError

_PAUSE_SECONDS: Final = 1.0


def wait_until_well(
    engine: Engine,
    project: Project,
    services: Sequence[str],
    *,
    limit_seconds: float,
    settle_seconds: float,
    report: Callable[[str], None],
) -> list[Container]:
    """Watch the containers and report each change; returns them when all are well.

    settle_seconds: for which those without a health check have to run without being restarted.

    Raises:
        DeployError: one ended with an error, or not all were well in time; names them.

    """
    deadline = time.monotonic() + limit_seconds
    seen: dict[str, str] = {}
    restarts: Mapping[str, int] = {}
    well_since: float | None = None
    while True:
        containers = engine.containers(project)
        for container in containers:
            state = _describe(container)
            if seen.get(container.name) != state:
                seen[container.name] = state
                report(f"{container.service}: {state}")
        failed = [each for each in containers if each.has_failed]
        if failed:
            raise DeployError(f"{failed[0].service} {_describe(failed[0])}")
        missing = set(services) - {each.service for each in containers}
        unwell = [each for each in containers if not each.is_well]
        if not missing and not unwell:
            names = [each.name for each in containers if each.is_unwatched]
            before, restarts = restarts, engine.restarts(names)
            again = [name for name in names if restarts[name] > before.get(name, restarts[name])]
            if again:
                raise DeployError(f"{again[0]} ends again and again, and says why in its log")
            well_since = well_since or time.monotonic()
            if not names or time.monotonic() - well_since >= settle_seconds:
                return containers
        if time.monotonic() > deadline:
            reasons = [f"{each.service} is {_describe(each)}" for each in unwell]
            reasons += [f"{service} has no container" for service in sorted(missing)]
            raise DeployError(f"not healthy after {limit_seconds:g} s: {', '.join(reasons)}")
        time.sleep(_PAUSE_SECONDS)


def _describe(container: Container) -> str:
    if container.state == "exited":
        return f"ended with status {container.exit_code}"
    return f"{container.state}, {container.health}" if container.health else container.state

"""The steps of a deployment before anything that runs is changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.settings import Settings
from tools.deploying import environment, models
from tools.deploying.certificate import certificate_problems
from tools.deploying.configuration import Configuration
from tools.deploying.engine import Container, Engine, Facts, Image, Project
from tools.deploying.environment import Needs
from tools.deploying.errors import DeployError
from tools.deploying.models import ServedVersion
from tools.deploying.output import Output
from tools.deploying.readable import unreadable
from tools.deploying.release import Release, ReleaseImage, freeze, save, tag_of


@dataclass(frozen=True, slots=True)
class Order:
    """What is deployed, and how.

    url: of the gateway; None takes it from the configuration. headers: with a key for the gateway.
    start_seconds: until all containers are well. photo_seconds: until the photo is answered.
    """

    project: Project
    needs: Needs
    url: str | None
    headers: Mapping[str, str]
    build: bool
    pull: bool
    start_seconds: float
    photo_seconds: float


def check(
    engine: Engine,
    order: Order,
    settings: Settings,
    output: Output,
    *,
    before: Release | None,
) -> Configuration:
    """Check the machine and the configuration; changes nothing. before: the release that runs.

    Raises:
        DeployError: with everything that is wrong.

    """
    facts = engine.facts()
    output.note(f"engine {facts.version}, Compose {facts.compose_version}")
    configuration = Configuration(engine.configuration(order.project))
    names = ", ".join(configuration.services)
    output.note(f"project {configuration.name}: {names}")
    problems = _problems(engine, order, settings, facts, configuration, before, output)
    if url_of(order, configuration) is None:
        problems.append("neither gateway nor nginx publishes a port: name the gateway with --url")
    for problem in problems:
        output.note(f"problem: {problem}")
    if problems:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DeployError(f"{problems[0]}{rest}")
    return configuration


def url_of(order: Order, configuration: Configuration) -> str | None:
    """Return the address of the gateway: as ordered, or as the configuration publishes it."""
    return order.url or configuration.url()


def verify_models(
    configuration: Configuration, settings: Settings, output: Output
) -> Mapping[str, ServedVersion]:
    """Import missing weights and check all; returns what serves."""
    repository = configuration.model_repository()
    if repository is None:
        output.note("no service mounts a folder of models: they are not checked")
        return {}
    found = models.verify(repository, settings.home, log=output.log)
    listed = ", ".join(f"{stage} {served.version}" for stage, served in found.items())
    output.note(f"{listed} in {repository}")
    return found


def fetch_images(
    engine: Engine, order: Order, configuration: Configuration, output: Output
) -> Mapping[str, Image]:
    """Pull and build; returns the images by service.

    Raises:
        DeployError: the engine refuses, or an image is still missing.

    """
    if order.pull:
        engine.pull(order.project)
    if order.build and configuration.builds():
        engine.build(order.project)
    found = {}
    for service in configuration.services:
        name = configuration.image_of(service)
        image = engine.image(name)
        if image is None:
            raise DeployError(f"the image {name} of {service} is not on this machine")
        found[service] = image
        output.note(f"{service}: {name} {image.id.removeprefix('sha256:')[:12]}")
    return found


def create_folders(
    configuration: Configuration, images: Mapping[str, Image], output: Output
) -> None:
    """Create what services write and what is missing."""
    users = {service: image.user for service, image in images.items()}
    done = list(environment.create_folders(configuration, users, dry_run=False))
    for line in done or ["none is missing"]:
        output.note(line)


def check_readable(configuration: Configuration, images: Mapping[str, Image]) -> None:
    """Raise DeployError for what services cannot read, now that all images are known."""
    users = {service: image.user for service, image in images.items()}
    for problem in unreadable(configuration, users):
        raise DeployError(problem)


def make_release(
    engine: Engine,
    number: int,
    order: Order,
    configuration: Configuration,
    images: Mapping[str, Image],
    served: Mapping[str, ServedVersion],
    *,
    folder: Path,
    output: Output,
) -> Release:
    """Name the images of this release and write its configuration into its folder."""
    release = Release(
        number=number,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        project=configuration.name,
        folder=str(order.project.folder),
        images={
            service: ReleaseImage(
                configuration.image_of(service),
                tag_of(configuration.name, service, number),
                image.id,
                image.digests,
            )
            for service, image in images.items()
        },
        models=served,
        repository=str(configuration.model_repository() or ""),
        scores=configuration.scores(),
        url=url_of(order, configuration) or "",
        key_service=configuration.key_service(),
    )
    save(release, folder)
    for image in release.images.values():
        engine.tag(image.id, image.tag)
    for path in freeze(configuration, order.project, release.images, folder):
        output.note(f"{path} is large and not copied: it stays as it is when a release goes back")
    return release


def _problems(
    engine: Engine,
    order: Order,
    settings: Settings,
    facts: Facts,
    configuration: Configuration,
    before: Release | None,
    output: Output,
) -> list[str]:
    running = [each for each in engine.containers(order.project) if each.state == "running"]
    ours = {port for container in running for port in container.ports}
    problems = [
        *_unreturnable(configuration, before, running, settings),
        *environment.disk_problems(facts, settings.home, order.needs),
        *environment.port_problems(configuration, ours),
        *environment.gpu_problems(configuration, facts),
        *environment.triton_problems(configuration),
        *environment.secret_problems(configuration),
        *environment.mount_problems(configuration),
        *unreadable(configuration, _users(engine, configuration)),
        *certificate_problems(order.url, configuration, settings, note=output.note),
        *environment.settings_problems(configuration, order.project),
    ]
    if running:
        output.note("memory is not checked: the containers that run now make room")
    else:
        problems += environment.memory_problems(order.needs)
        if little := environment.describe_memory(configuration):
            output.note(little)
    return problems


def _unreturnable(
    configuration: Configuration,
    before: Release | None,
    running: Sequence[Container],
    settings: Settings,
) -> Iterator[str]:
    """Find containers that a deployment would replace and could not bring back."""
    name = configuration.name
    if before is None and running:
        yield (
            f"containers of the project {name} run, and no deployment of "
            f"{settings.home} made them: a deployment that fails could not bring them back. "
            f"Stop them first: docker compose --project-name {name} down (volumes stay)"
        )
    elif before is not None and before.project != name:
        yield (
            f"the deployments of {settings.home} are of the project {before.project}: give "
            f"{name} a home of its own (AURUM_HOME)"
        )


def _users(engine: Engine, configuration: Configuration) -> Mapping[str, str]:
    """Users of the images that are there already, by service."""
    names = {service: configuration.image_of(service) for service in configuration.services}
    images = {name: engine.image(name) for name in set(names.values())}
    found = {service: images[name] for service, name in names.items()}
    return {service: image.user for service, image in found.items() if image is not None}

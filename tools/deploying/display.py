"""What `aurum deploy` shows of releases and deployments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.deploying import models
from tools.deploying.engine import Engine
from tools.deploying.errors import DeployError
from tools.deploying.journal import Event, Journal
from tools.deploying.release import Release, load

_SHOWN_DEPLOYMENTS: Final = 5
_ID_DIGITS: Final = 12


def summary(release: Release, journal: Journal) -> Iterator[str]:
    """Describe a release that was put into service."""
    yield f"Release {release.number} runs at {release.url}"
    yield f"  score a photo: curl -F image=@photo.jpg {release.url}/api/ml/score"
    yield f"  the API's page: {release.url}/api/docs"
    yield f"  journal and logs: {journal.folder}"
    yield "  go back: aurum deploy rollback"


def status(journal: Journal, engine: Engine, home: Path) -> tuple[bool, list[str]]:
    """Describe what runs; returns whether all of it is well, and lines."""
    current = journal.current()
    damage = [f"warning: {journal.damage()}"] if journal.damage() else []
    if current is None:
        return False, [*damage, "nothing was deployed from here", *_last_deployments(journal)]
    folder = journal.folder_of(current)
    release = load(folder)
    lines = [*damage, f"release {current} of {release.at} at {release.url}"]
    containers = engine.containers(release.project_in(folder))
    for service, image in release.images.items():
        of_it = [each for each in containers if each.service == service]
        states = ", ".join(f"{each.state} {each.health}".strip() for each in of_it) or "missing"
        digits = image.id.removeprefix("sha256:")[:_ID_DIGITS]
        lines.append(f"  {service}: {states} ({image.name}, {digits})")
    changed = models.differences(Path(release.repository), home, release.models)
    for stage, served in release.models.items():
        note = "; another version serves now" if stage in changed else ""
        lines.append(f"  {stage}: version {served.version}{note}")
    well = {each.service for each in containers if each.is_well} >= set(release.images)
    well = well and all(each.is_well for each in containers)
    is_sure = journal.is_settled() and not damage
    return well and is_sure, [*lines, *_last_deployments(journal)]


def log_text(journal: Journal, number: int | None) -> str:
    """Read the log of a deployment; None: of the last one. Raises DeployError if there is none."""
    if number is None:
        number = journal.next_number() - 1
    try:
        return journal.log_of(number).read_text(errors="replace")
    except FileNotFoundError:
        raise DeployError(
            "nothing was deployed from here"
            if number == 0
            else f"there is no log of deployment {number} in {journal.folder}"
        ) from None


def _last_deployments(journal: Journal) -> Iterator[str]:
    """Describe how the last deployments ended."""
    entries = journal.entries()
    for number in list(dict.fromkeys(entry.number for entry in entries))[-_SHOWN_DEPLOYMENTS:]:
        last = [entry for entry in entries if entry.number == number][-1]
        reason = f": {last.reason}" if last.reason else ""
        release = "" if last.release is None else f" (release {last.release})"
        ended = last.event in (Event.DEPLOYED, Event.ROLLED_BACK, Event.FAILED)
        how = str(last.event) if ended else f"not ended, {last.event}"
        yield f"deployment {number}, {last.at}: {how}{release}{reason}"

"""What is the case with each version: on the disk, in the journal, in Triton."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.errors import LifecycleError, WeightsError
from tools.registry.candidate_folders import read_plan
from tools.registry.dry_run import check_digest
from tools.registry.journal import Action
from tools.registry.repository import SIDECAR_FILE, ModelCard, read_version_metadata
from tools.registry.triton_view import States, TritonState
from tools.registry.version_store import STAGE_NAMES, VersionStore
from triton_python_backend.contract import candidate_of

Place = Literal["serving", "waiting", "below", "kept", "refused", "tried"]
"""In service; newest, but not served (yet); present below the newest; kept; Triton refuses it; on
trial beside the one in service."""


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version of a stage."""

    stage: str
    version: int
    place: Place
    card: ModelCard | None
    digest: str
    """`ok`, `no sidecar`, or what is wrong."""
    state: TritonState | None
    """None where Triton does not run or does not know of it."""
    note: str
    """Why it was taken out, by the journal."""


def view(version_store: VersionStore, states: States | None) -> list[VersionView]:
    """List every version of every stage, kept ones last; `states` None: Triton does not run."""
    notes = {
        (entry.stage, entry.version): entry.reason
        for entry in version_store.journal.entries()
        if entry.action in (Action.WITHDRAW, Action.ABORT) and entry.reason
    }
    plan = read_plan(version_store)
    tried = None if plan is None else (plan.stage, plan.version)
    found = []
    for stage in STAGE_NAMES:
        for version in version_store.placed_versions(stage):
            state = None if states is None else states.get((stage, version))
            folder = version_store.placed(stage, version)
            place = _place(version, version_store.newest(stage), state, running=states is not None)
            if place == "serving" and states is not None and _newer_ready(states, stage, version):
                # older versions of the embedding stay loaded for the collections in their space
                place = "below"
            if (stage, version) == tried:
                place = "tried"
            found.append(_version(stage, version, folder, place, state, ""))
        for version in version_store.kept_versions(stage):
            folder = version_store.kept(stage, version)
            note = notes.get((stage, version), "")
            place, state = "kept", None
            if (stage, version) == tried:
                place = "tried"
                state = None if states is None else states.get((candidate_of(stage), version))
            found.append(_version(stage, version, folder, place, state, note))
    return found


def card_of(path: Path) -> ModelCard | None:
    """Read a sidecar; None if there is none that can be read."""
    try:
        return read_version_metadata(path)
    except WeightsError:
        return None


def _newer_ready(states: States, stage: str, version: int) -> bool:
    return any(
        name == stage and number > version and state.state == "READY"
        for (name, number), state in states.items()
    )


def _place(version: int, newest: int | None, state: TritonState | None, *, running: bool) -> Place:
    if state is not None and state.state == "READY":
        return "serving"
    if running and state is not None and state.state == "UNAVAILABLE" and version == newest:
        return "refused"
    if version != newest:
        return "below"
    return "waiting" if running else "serving"


def _version(
    stage: str, version: int, folder: Path, place: Place, state: TritonState | None, note: str
) -> VersionView:
    try:
        digest = "no sidecar" if check_digest(folder) is None else "ok"
    except LifecycleError as error:
        digest = str(error)
    card = card_of(folder / SIDECAR_FILE)
    return VersionView(stage, version, place, card, digest, state, note)

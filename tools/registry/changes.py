"""Changing what serves: forward, back, out. The highest number present is in service.

Each change checks the version that shall serve before any folder moves, and moves folders in an
order in which only the last move changes what serves.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tools.errors import LifecycleError
from tools.registry import candidate_folders
from tools.registry.dry_run import Check
from tools.registry.journal import Action, Entry, history
from tools.registry.version_store import VersionStore


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one stage."""

    stage: str
    before: int | None
    after: int | None


def activate(
    version_store: VersionStore, stage: str, version: int | None, *, check: Check
) -> Change:
    """Put a version into service that is kept or present; unset, the newest kept one.

    Present versions above it are taken out and kept.

    Raises:
        LifecycleError: if there is no such version, it serves already, does not pass `check`, or
            another version of the stage is being tried.
    """
    with opened(version_store):
        refuse_while_tried(version_store, stage)
        if version is None:
            kept = version_store.kept_versions(stage)
            if not kept:
                raise LifecycleError(f"{stage} has no kept version to activate")
            version = kept[-1]
        if version == version_store.newest(stage):
            raise LifecycleError(f"{stage} {version} is in service already")
        return go_to(version_store, Action.ACTIVATE, stage, version, check=check)


def rollback(version_store: VersionStore, stage: str, *, check: Check) -> Change:
    """Return to what was in service before, by the journal; else to the next lower version.

    A version that does not pass `check` is passed over.

    Raises:
        LifecycleError: if there is nothing to go back to, or a version of the stage is being tried.
    """
    with opened(version_store):
        refuse_while_tried(version_store, stage)
        now = version_store.newest(stage)
        reasons = []
        for candidate in _earlier(version_store, stage):
            try:
                return go_to(version_store, Action.ROLLBACK, stage, candidate, check=check)
            except LifecycleError as error:
                reasons.append(str(error))
        if reasons:
            raise LifecycleError("; ".join(reasons))
        only = "no version" if now is None else f"only version {now}"
        raise LifecycleError(f"{stage} has {only}; there is nothing to go back to")


def withdraw(version_store: VersionStore, stage: str, version: int, *, reason: str) -> Change:
    """Take out a version that does not work; what is below it serves."""
    with opened(version_store):
        placed = version_store.placed_versions(stage)
        if version not in placed:
            raise LifecycleError(f"{stage} has no version {version} in {version_store.repository}")
        rest = [number for number in placed if number != version]
        if not rest:
            raise LifecycleError(f"{stage} {version} is the only one there is: {reason}")
        entry = Entry(Action.WITHDRAW, stage, version, placed[-1], rest[-1], "begun", reason)
        return journalled(version_store, entry, lambda: [version_store.take_out(stage, version)])


def remove(version_store: VersionStore, stage: str, version: int) -> Change:
    """Delete a version that is not in service.

    Raises:
        LifecycleError: if it serves, is being tried, or there is none.
    """
    with opened(version_store):
        now = version_store.newest(stage)
        if version == now:
            raise LifecycleError(f"{stage} {version} is in service; roll it back first")
        refuse_while_tried(version_store, stage, version)
        present = version in version_store.placed_versions(stage)
        if not present and version not in version_store.kept_versions(stage):
            raise LifecycleError(f"{stage} has no version {version}")
        entry = Entry(Action.REMOVE, stage, version, now, now, "begun")

        def delete() -> None:
            # out of Triton's sight at once; files go after that
            folder = (
                version_store.take_out(stage, version)
                if present
                else version_store.kept(stage, version)
            )
            shutil.rmtree(folder)

        return journalled(version_store, entry, delete)


def note_import(
    version_store: VersionStore, stage: str, version: int, *, before: int | None
) -> None:
    """Write down that an import put a version into service; the caller holds the lock."""
    after = version_store.newest(stage)
    version_store.journal.append(Entry(Action.IMPORT, stage, version, before, after))


def recover(version_store: VersionStore) -> None:
    """Close what a crash left open; the caller holds the lock."""
    version_store.clear_unfinished()
    for entry in version_store.journal.unfinished():
        finished = _is_finished(version_store, entry)
        version_store.journal.append(replace(entry, phase="done" if finished else "undone"))
    plan = candidate_folders.read_plan(version_store)
    promoted = plan is not None and plan.version == version_store.newest(plan.stage)
    if promoted or (plan is None and not candidate_folders.is_clear(version_store)):
        candidate_folders.remove(version_store)


def refuse_while_tried(version_store: VersionStore, stage: str, version: int | None = None) -> None:
    """Raise LifecycleError if a version of a stage, or the one named, is being tried."""
    plan = candidate_folders.read_plan(version_store)
    if plan is not None and plan.stage == stage and version in (None, plan.version):
        raise LifecycleError(
            f"{stage} {plan.version} is being tried: "
            "`aurum models promote` or `aurum models abort` ends that first"
        )


def _is_finished(version_store: VersionStore, entry: Entry) -> bool:
    """Whether a step that was begun had come to its end when a crash came."""
    plan = candidate_folders.read_plan(version_store)
    match entry.action:
        case Action.REMOVE:
            return entry.version not in version_store.placed_versions(entry.stage)
        case Action.TRY:
            return plan is not None and (plan.stage, plan.version) == (entry.stage, entry.version)
        case Action.ABORT:
            return plan is None
        case _:
            return version_store.newest(entry.stage) == entry.after


@contextmanager
def opened(version_store: VersionStore) -> Iterator[None]:
    """Hold the lock, with the journal in order."""
    with version_store.locked():
        recover(version_store)
        yield


def _earlier(version_store: VersionStore, stage: str) -> list[int]:
    # by the journal first, then whatever lies below
    now = version_store.newest(stage)
    there = {*version_store.placed_versions(stage), *version_store.kept_versions(stage)}
    told = [v for v in reversed(history(version_store.journal.entries(), stage)) if v in there]
    below = [
        v for v in reversed(version_store.placed_versions(stage)) if now is not None and v < now
    ]
    return [v for v in dict.fromkeys([*told, *below]) if v != now]


def go_to(
    version_store: VersionStore, action: Action, stage: str, version: int, *, check: Check
) -> Change:
    """Put a version that is kept or present into service; the caller holds the lock.

    Raises LifecycleError if there is no such version, or it does not pass `check`.
    """
    placed = version_store.placed_versions(stage)
    returns = version not in placed
    if returns and version not in version_store.kept_versions(stage):
        known = (
            ", ".join(map(str, sorted({*placed, *version_store.kept_versions(stage)}))) or "none"
        )
        raise LifecycleError(f"{stage} has no version {version}; there are: {known}")
    folder = version_store.kept(stage, version) if returns else version_store.placed(stage, version)
    check(stage, folder)
    above = [number for number in placed if number > version]

    def move() -> None:
        if returns:
            version_store.put_back(stage, version)
        for number in above:
            version_store.take_out(stage, number)

    entry = Entry(action, stage, version, max(placed, default=None), version, "begun")
    return journalled(version_store, entry, move)


def journalled(version_store: VersionStore, entry: Entry, move: Callable[[], object]) -> Change:
    """Make a step, written down before and after it; the caller holds the lock.

    Raises LifecycleError where the disk refuses; what was begun is then closed.
    """
    version_store.journal.append(entry)
    try:
        move()
    except OSError as error:
        recover(version_store)
        raise LifecycleError(f"{error.filename}: {error.strerror}") from error
    version_store.journal.append(replace(entry, phase="done"))
    return Change(entry.stage, entry.before, entry.after)

"""Rank 4: changing what serves: forward, back, out. The highest number present is in service.

Each change checks the version that shall serve before any folder moves, and moves folders in an
order in which only the last move changes what serves.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tools.lifecycle.errors import LifecycleError
from tools.lifecycle.journal import Action, Entry, history
from tools.lifecycle.shelf import Shelf
from tools.lifecycle.trial import Check


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one stage."""

    stage: str
    before: int | None
    after: int | None


def activate(shelf: Shelf, stage: str, version: int | None, *, check: Check) -> Change:
    """Put a version into service that is kept or present; unset, the newest kept one.

    Present versions above it are taken out and kept.

    Raises:
        LifecycleError: if there is no such version, it serves already or does not pass `check`.
    """
    with opened(shelf):
        if version is None:
            kept = shelf.kept_versions(stage)
            if not kept:
                raise LifecycleError(f"{stage} has no kept version to activate")
            version = kept[-1]
        if version == shelf.newest(stage):
            raise LifecycleError(f"{stage} {version} is in service already")
        return _go_to(shelf, Action.ACTIVATE, stage, version, check=check)


def rollback(shelf: Shelf, stage: str, *, check: Check) -> Change:
    """Return to what was in service before, by the journal; else to the next lower version.

    A version that does not pass `check` is passed over.

    Raises:
        LifecycleError: if there is nothing to go back to.
    """
    with opened(shelf):
        now = shelf.newest(stage)
        reasons = []
        for candidate in _earlier(shelf, stage):
            try:
                return _go_to(shelf, Action.ROLLBACK, stage, candidate, check=check)
            except LifecycleError as error:
                reasons.append(str(error))
        if reasons:
            raise LifecycleError("; ".join(reasons))
        only = "no version" if now is None else f"only version {now}"
        raise LifecycleError(f"{stage} has {only}; there is nothing to go back to")


def withdraw(shelf: Shelf, stage: str, version: int, *, reason: str) -> Change:
    """Take out a version that does not work; what is below it serves."""
    with opened(shelf):
        placed = shelf.placed_versions(stage)
        if version not in placed:
            raise LifecycleError(f"{stage} has no version {version} in {shelf.repository}")
        rest = [number for number in placed if number != version]
        if not rest:
            raise LifecycleError(f"{stage} {version} is the only one there is: {reason}")
        entry = Entry(Action.WITHDRAW, stage, version, placed[-1], rest[-1], "begun", reason)
        return _journalled(shelf, entry, lambda: [shelf.take_out(stage, version)])


def remove(shelf: Shelf, stage: str, version: int) -> Change:
    """Delete a version that is not in service.

    Raises:
        LifecycleError: if it serves, or there is none.
    """
    with opened(shelf):
        now = shelf.newest(stage)
        if version == now:
            raise LifecycleError(f"{stage} {version} is in service; roll it back first")
        present = version in shelf.placed_versions(stage)
        if not present and version not in shelf.kept_versions(stage):
            raise LifecycleError(f"{stage} has no version {version}")
        entry = Entry(Action.REMOVE, stage, version, now, now, "begun")

        def delete() -> None:
            # out of Triton's sight at once; files go after that
            folder = shelf.take_out(stage, version) if present else shelf.kept(stage, version)
            shutil.rmtree(folder)

        return _journalled(shelf, entry, delete)


def note_import(shelf: Shelf, stage: str, version: int, *, before: int | None) -> None:
    """Write down that an import put a version into service; the caller holds the lock."""
    after = shelf.newest(stage)
    shelf.journal.append(Entry(Action.IMPORT, stage, version, before, after))


def recover(shelf: Shelf) -> None:
    """Close what a crash left open; the caller holds the lock."""
    shelf.clear_unfinished()
    for entry in shelf.journal.unfinished():
        if entry.action is Action.REMOVE:
            finished = entry.version not in shelf.placed_versions(entry.stage)
        else:
            finished = shelf.newest(entry.stage) == entry.after
        shelf.journal.append(replace(entry, phase="done" if finished else "undone"))


@contextmanager
def opened(shelf: Shelf) -> Iterator[None]:
    """Hold the lock, with the journal in order."""
    with shelf.locked():
        recover(shelf)
        yield


def _earlier(shelf: Shelf, stage: str) -> list[int]:
    # by the journal first, then whatever lies below
    now = shelf.newest(stage)
    there = {*shelf.placed_versions(stage), *shelf.kept_versions(stage)}
    told = [v for v in reversed(history(shelf.journal.entries(), stage)) if v in there]
    below = [v for v in reversed(shelf.placed_versions(stage)) if now is not None and v < now]
    return [v for v in dict.fromkeys([*told, *below]) if v != now]


def _go_to(shelf: Shelf, action: Action, stage: str, version: int, *, check: Check) -> Change:
    placed = shelf.placed_versions(stage)
    returns = version not in placed
    if returns and version not in shelf.kept_versions(stage):
        known = ", ".join(map(str, sorted({*placed, *shelf.kept_versions(stage)}))) or "none"
        raise LifecycleError(f"{stage} has no version {version}; there are: {known}")
    folder = shelf.kept(stage, version) if returns else shelf.placed(stage, version)
    check(stage, folder)
    above = [number for number in placed if number > version]

    def move() -> None:
        if returns:
            shelf.put_back(stage, version)
        for number in above:
            shelf.take_out(stage, number)

    entry = Entry(action, stage, version, max(placed, default=None), version, "begun")
    return _journalled(shelf, entry, move)


def _journalled(shelf: Shelf, entry: Entry, move: Callable[[], object]) -> Change:
    shelf.journal.append(entry)
    try:
        move()
    except OSError as error:
        recover(shelf)
        raise LifecycleError(f"{error.filename}: {error.strerror}") from error
    shelf.journal.append(replace(entry, phase="done"))
    return Change(entry.stage, entry.before, entry.after)

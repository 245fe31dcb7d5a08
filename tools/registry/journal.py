"""The journal of what was in service: one JSON line per step, on the disk before the step.

A change is written twice: as begun before the first folder moves, as done after the last. Whoever
opens the journal next closes what a crash left open by looking at what really serves.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

import orjson

from gateway.durable_files import append_line


class Action(StrEnum):
    """What was done to a stage."""

    IMPORT = "import"
    ACTIVATE = "activate"
    ROLLBACK = "rollback"
    WITHDRAW = "withdraw"
    """Taken out because it does not work."""
    REMOVE = "remove"
    TRY = "try"
    """Tried beside the version in service, which stays."""
    PROMOTE = "promote"
    """Tried, and then put into service."""
    ABORT = "abort"
    """Tried, and no longer; with a reason where it was found broken."""


FORWARD = frozenset({Action.IMPORT, Action.ACTIVATE, Action.PROMOTE})
Phase = Literal["begun", "done", "undone"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step: the version in service before it and after it; None where there is none."""

    action: Action
    stage: str
    version: int
    """What the step is about."""
    before: int | None
    after: int | None
    phase: Phase = "done"
    reason: str = ""
    at: str = ""
    """ISO 8601, UTC; set when it is written."""


class Journal:
    """The file of one home. Its user holds the home's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[Entry]:
        """All steps, oldest first; a line that a crash tore is passed over."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [entry for line in lines if (entry := _parse(line)) is not None]

    def append(self, entry: Entry) -> None:
        """Write one step and wait until it is on the disk."""
        stamped = replace(entry, at=datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        append_line(self._path, orjson.dumps(asdict(stamped)))

    def unfinished(self) -> list[Entry]:
        """Steps begun of which the end is not written."""
        open_steps: dict[str, Entry] = {}
        for entry in self.entries():
            if entry.phase == "begun":
                open_steps[entry.stage] = entry
            else:
                open_steps.pop(entry.stage, None)
        return list(open_steps.values())


def history(entries: Sequence[Entry], stage: str) -> list[int]:
    """Versions to go back to, the nearest last: what served before each step forward."""
    stack: list[int] = []
    for entry in entries:
        if entry.stage != stage or entry.phase != "done":
            continue
        if entry.action in FORWARD and entry.before is not None:
            stack.append(entry.before)
        elif entry.action is Action.ROLLBACK and stack:
            stack.pop()
        elif entry.action in (Action.WITHDRAW, Action.REMOVE):
            stack = [version for version in stack if version != entry.version]
    return stack


def _parse(line: bytes) -> Entry | None:
    try:
        fields = orjson.loads(line)
        return Entry(**{**fields, "action": Action(fields["action"])})
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
        return None

"""The journal of deployments: one JSON line per step, on the disk before the step is taken.

    AURUM_HOME/deployments/
        journal.jsonl       what happened
        lock                held while a deployment runs
        12/                 deployment 12: its log, and the release that it made

A deployment that was killed has no line that ends it; the next one finds that.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import orjson

from gateway.durable_files import append_line
from tools.deploying.errors import UnderWayError


class Event(StrEnum):
    """What happened to a deployment."""

    BEGUN = "begun"
    STARTING = "starting"
    """From here on, containers are changed."""
    PROVEN = "proven"
    """The photo was answered; only the end is missing."""
    DEPLOYED = "deployed"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    """Going back did not work either."""


_ENDS = frozenset({Event.DEPLOYED, Event.ROLLED_BACK, Event.FAILED})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    number: of the deployment. release: number of the deployment that made what is to run, or runs;
    None: nothing. reason: why it is rolled back. at: ISO 8601, UTC.
    """

    number: int
    event: Event
    release: int | None = None
    reason: str = ""
    at: str = ""


class Journal:
    """The deployments of one home. Writers hold the lock."""

    def __init__(self, home: Path) -> None:
        """Look at nothing yet."""
        self.folder = home / "deployments"
        self._path = self.folder / "journal.jsonl"

    def folder_of(self, number: int) -> Path:
        """Folder of a deployment."""
        return self.folder / str(number)

    def log_of(self, number: int) -> Path:
        """Log of a deployment."""
        return self.folder_of(number) / "deployment.log"

    def entries(self) -> list[Entry]:
        """All lines, oldest first; one that a crash tore is passed over."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [entry for line in lines if (entry := _parse(line)) is not None]

    def append(
        self, number: int, event: Event, *, release: int | None = None, reason: str = ""
    ) -> None:
        """Write one line and wait until it is on the disk."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = Entry(number, event, release, reason, at)
        append_line(self._path, orjson.dumps(asdict(entry)))

    def current(self) -> int | None:
        """Return the release that runs, as far as deployments know."""
        deployed = [entry for entry in self.entries() if entry.event is Event.DEPLOYED]
        return deployed[-1].release if deployed else None

    def before_current(self) -> int | None:
        """Return the release that ran before the current one; None if there was no other."""
        releases = [entry.release for entry in self.entries() if entry.event is Event.DEPLOYED]
        others = [release for release in releases if release != releases[-1]]
        return others[-1] if others else None

    def unfinished(self) -> list[Entry]:
        """Lines of the last deployment if nothing ended it."""
        entries = self.entries()
        last = [entry for entry in entries if entry.number == entries[-1].number]
        return [] if any(entry.event in _ENDS for entry in last) else last

    def next_number(self) -> int:
        """Return a number that no deployment had, also none that was killed very early."""
        folders = [int(each.name) for each in self.folder.glob("[1-9]*") if each.name.isdecimal()]
        return max([*folders, *(entry.number for entry in self.entries())], default=0) + 1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to deploy; raises UnderWayError if another process has it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / "lock"
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise UnderWayError(
                    f"process {holder} deploys now ({path}); wait for it, or end it: what it "
                    "began is rolled back"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _parse(line: bytes) -> Entry | None:
    try:
        fields = orjson.loads(line)
        return Entry(**{**fields, "event": Event(fields["event"])})
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
        return None

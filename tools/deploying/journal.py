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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import orjson

from tools.deploying.errors import DeployError, UnderWayError


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
        """All lines that can be read, oldest first."""
        return [entry for line in self._lines() if (entry := _parse(line)) is not None]

    def damage(self) -> str:
        """Say which lines cannot be read; empty if all can. The last may be torn by a crash."""
        lines = self._lines()
        wrong = [number for number, line in enumerate(lines, 1) if _parse(line) is None]
        if wrong and wrong[-1] == len(lines) and not self._path.read_bytes().endswith(b"\n"):
            wrong.pop()
        if not wrong:
            return ""
        which = f"line {wrong[0]}" if len(wrong) == 1 else f"lines {', '.join(map(str, wrong))}"
        return f"{which} of {self._path} cannot be read"

    def check(self) -> None:
        """Raise DeployError if it is damaged: what runs, and what ran before, would be a guess."""
        damage = self.damage()
        if damage:
            raise DeployError(
                f"{damage}: put the file back from a backup, or remove what cannot be read and "
                "compare `aurum deploy status` with what runs"
            )

    def append(
        self, number: int, event: Event, *, release: int | None = None, reason: str = ""
    ) -> None:
        """Write one line and wait until it is on the disk; raises DeployError if it cannot be."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = Entry(number, event, release, reason, at)
        try:
            with self._path.open("ab+", buffering=0) as file:
                file.seek(0)
                before = file.readall()
                complete = before.rfind(b"\n") + 1
                line = orjson.dumps(asdict(entry)) + b"\n"
                if _parse(before[complete:]) is not None:
                    line = b"\n" + line
                else:
                    # what a crash or a full disk tore
                    file.truncate(complete)
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
        except OSError as error:
            raise DeployError(f"{self._path} cannot be written: {error.strerror}") from error

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

    def is_settled(self) -> bool:
        """Whether the last deployment ended well or went back, so that the current release runs."""
        entries = self.entries()
        return not entries or entries[-1].event in (Event.DEPLOYED, Event.ROLLED_BACK)

    def next_number(self) -> int:
        """Return a number that no deployment had, also none that was killed very early."""
        folders = [int(each.name) for each in self.folder.glob("[1-9]*") if each.name.isdecimal()]
        return max([*folders, *(entry.number for entry in self.entries())], default=0) + 1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to deploy; raises UnderWayError if another process has it."""
        path = self.folder / "lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = path.open("a+")
        except OSError as error:
            raise DeployError(f"{error.filename} cannot be written: {error.strerror}") from error
        with lock as file:
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
            # for the message to others only; a full disk is found when it matters
            with suppress(OSError):
                os.write(file.fileno(), str(os.getpid()).encode())
            yield

    def _lines(self) -> list[bytes]:
        try:
            return self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DeployError(f"{self._path} cannot be read: {error.strerror}") from error


def _parse(line: bytes) -> Entry | None:
    try:
        fields = orjson.loads(line)
        entry = Entry(**{**fields, "event": Event(fields["event"])})
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
        return None
    numbers = isinstance(entry.number, int) and isinstance(entry.release, int | None)
    return entry if numbers else None

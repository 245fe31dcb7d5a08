"""The state of an `AURUM_HOME`: a lock that a crash frees, and a file that describes what runs."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal

from gateway.durable_files import write_synced
from tools.serving.errors import AlreadyRunningError
from tools.serving.home import Home

Phase = Literal["starting", "ready", "restarting"]


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process; its start time (seconds, epoch) distinguishes it from a later one with its pid."""

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class RunState:
    """What runs in a home."""

    command: str
    supervisor: ProcessRecord
    address: str
    phase: Phase = "starting"
    parts: Mapping[str, ProcessRecord] = field(default_factory=dict)


class HomeLock:
    """The lock of a home, held while this object's file is open."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock, or raise AlreadyRunningError with the running stack's address."""
        self._home.run.mkdir(parents=True, exist_ok=True)
        file = (self._home.run / "lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise AlreadyRunningError(self._refusal()) from None
        self._file = file

    @classmethod
    def adopt(cls, home: Home, descriptor: int) -> "HomeLock":
        """Take over a lock that another process acquired for this one."""
        lock = cls(home)
        lock._file = os.fdopen(descriptor, "a")
        os.set_inheritable(descriptor, False)
        return lock

    def make_inheritable(self) -> int:
        """Let a child, or the program that this process executes next, hold the lock.

        Returns:
            The descriptor to pass on; raises RuntimeError if the lock is not held.

        """
        if self._file is None:
            raise RuntimeError("the lock is not held")
        os.set_inheritable(self._file.fileno(), True)
        return self._file.fileno()

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Whether any process, including this one, serves the home now."""
        path = self._home.run / "lock"
        if not path.exists():
            return False
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _refusal(self) -> str:
        state = read_state(self._home)
        if state is None:
            return f"{self._home.root} is being started by another process"
        return (
            f"{self._home.root} is already served at {state.address} by `aurum {state.command}` "
            f"(pid {state.supervisor.pid}); stop it with `aurum down`, or set AURUM_HOME to "
            "another folder"
        )


def read_state(home: Home) -> RunState | None:
    """Return the state that the running or crashed stack wrote; None without one."""
    try:
        raw = json.loads(_path(home).read_text())
        return RunState(
            command=raw["command"],
            supervisor=ProcessRecord(**raw["supervisor"]),
            address=raw["address"],
            phase=raw["phase"],
            parts={name: ProcessRecord(**part) for name, part in raw["parts"].items()},
        )
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def write_state(home: Home, state: RunState) -> None:
    """Replace the state file atomically."""
    path = _path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    write_synced(temporary, json.dumps(asdict(state)).encode())
    temporary.replace(path)


def clear_state(home: Home) -> None:
    """Say that nothing runs."""
    _path(home).unlink(missing_ok=True)


def _path(home: Home) -> Path:
    return home.run / "state.json"

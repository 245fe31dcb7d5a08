"""Processes by session: each part leads its own session, which is ended as a whole."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from tools.serving.errors import ServingError
from tools.serving.home import Home
from tools.serving.state import ProcessRecord, RunState

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - looked at, not written
_SAME_START_SECONDS: Final = 0.05


def record(pid: int) -> ProcessRecord:
    """Return the record of a running process; the start time is 0 if it has just ended."""
    try:
        return ProcessRecord(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return ProcessRecord(pid, 0.0)


def is_alive(process: ProcessRecord) -> bool:
    """Whether exactly this process still runs (a zombie does not)."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < _SAME_START_SECONDS
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def session_members(leader: ProcessRecord) -> list[ProcessRecord]:
    """Return all living processes of the session that this process led, itself included.

    No new process gets a number that a session still uses, so a leader with another start time
    means that the session is empty.
    """
    current = record(leader.pid)
    if current.started and abs(current.started - leader.started) >= _SAME_START_SECONDS:
        return []
    members = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == leader.pid:
                members.append(record(pid))
    return [member for member in members if is_alive(member)]


def kill_session(leader: ProcessRecord, *, timeout_seconds: float = 5.0) -> None:
    """Kill all processes of a session; raises ServingError if one survives."""
    deadline = time.monotonic() + timeout_seconds
    while members := session_members(leader):
        if time.monotonic() > deadline:
            pids = ", ".join(str(member.pid) for member in members)
            message = f"processes {pids} cannot be killed"
            raise ServingError(message)
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        time.sleep(0.02)


def end_process(process: ProcessRecord, *, grace_seconds: float) -> bool:
    """Send SIGTERM and wait; False if the process still runs after the grace time."""
    with suppress(ProcessLookupError):
        if is_alive(process):
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kill_process(process: ProcessRecord) -> None:
    """Kill one process and wait for its end."""
    while is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.02)


def remove_shared_memory(home: Home) -> list[str]:
    """Delete the shared memory files of this home's Triton; returns their names."""
    names = []
    for path in SHARED_MEMORY.glob(f"{home.shm_prefix}*"):
        path.unlink(missing_ok=True)
        names.append(path.name)
    return names


def clear_leftovers(home: Home, state: RunState | None) -> bool:
    """Kill and remove what a crashed run of this home left; True if there was anything.

    Call it only while holding the home's lock, or while it is free.
    """
    found = False
    for part in state.parts.values() if state else ():
        found = bool(session_members(part)) or found
        kill_session(part)
    return bool(remove_shared_memory(home)) or found

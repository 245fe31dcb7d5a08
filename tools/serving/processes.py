"""Processes by session: every part leads a session of its own, ended as a whole."""

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

SHARED_MEMORY: Final = Path("/dev/shm")
_SAME_START_SECONDS: Final = 0.05


def record(pid: int) -> ProcessRecord:
    """Describe a process that runs now; one that has just died gets the start time 0."""
    try:
        return ProcessRecord(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return ProcessRecord(pid, 0.0)


def is_alive(process: ProcessRecord) -> bool:
    """Whether this very process still runs (a dead one not yet reaped does not)."""
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < _SAME_START_SECONDS
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def session_members(leader: ProcessRecord) -> list[ProcessRecord]:
    """All living processes of the session that this process led, itself included.

    A number is not given to a new process while a session bears it, so a leader of another start
    time means that nothing of the session is left.
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
    """Kill what is left of a session; raise ServingError if something survives even that."""
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
    """Ask a process to end and wait for it; False if it still runs after the grace time."""
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
    """Kill one process and wait until it is gone."""
    while is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.02)


def remove_shared_memory(home: Home) -> list[str]:
    """Delete the shared memory files of this home's Triton; return their names."""
    names = []
    for path in SHARED_MEMORY.glob(f"{home.shm_prefix}*"):
        path.unlink(missing_ok=True)
        names.append(path.name)
    return names


def clear_leftovers(home: Home, state: RunState | None) -> bool:
    """Kill and remove what a crashed run of this home left; whether there was anything.

    Only for the holder of the home's lock, or when nobody holds it.
    """
    found = False
    for part in state.parts.values() if state else ():
        found = bool(session_members(part)) or found
        kill_session(part)
    return bool(remove_shared_memory(home)) or found

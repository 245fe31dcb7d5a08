"""The stack in the background: start and wait, stop and verify, describe what runs."""

import subprocess
import time
from collections.abc import Callable
from typing import Final

from tools.serving.errors import AlreadyRunningError, ServingError
from tools.serving.home import Home, rotate_log
from tools.serving.processes import clear_leftovers, end_process, is_alive, kill_process, record
from tools.serving.stack import Stack
from tools.serving.state import HomeLock, RunState, clear_state, read_state

_LOG: Final = "supervisor"
_POLL_SECONDS: Final = 0.02
_STOP_GRACE_SECONDS: Final = 45.0
_STATE_APPEARS_SECONDS: Final = 5.0


def start(stack: Stack, *, report: Callable[[str], None]) -> None:
    """Start the stack detached and return when it is ready.

    Waits if the same stack is already running. Raises ServingError with the line that ended the
    start; then no process is left.
    """
    home = stack.home
    lock = HomeLock(home)
    if lock.is_held():
        _join_running(stack, report=report)
        return
    lock.acquire()
    try:
        process, said = _launch(stack, lock, report=report)
    except BaseException:
        clear_state(home)
        raise
    finally:
        lock.release()
    try:
        _follow(process, home, said, report=report)
    except BaseException:
        # also on Ctrl-C: `up` leaves a ready stack or none
        end_process(record(process.pid), grace_seconds=_STOP_GRACE_SECONDS)
        process.wait()
        raise


def stop(home: Home) -> bool:
    """Stop everything that runs in the home or was left by a crash; True if there was anything.

    Raises ServingError if something cannot be stopped.
    """
    found = False
    lock = HomeLock(home)
    if lock.is_held():
        found = True
        supervisor = _running_state(home).supervisor
        if not end_process(supervisor, grace_seconds=_STOP_GRACE_SECONDS):
            kill_process(supervisor)
    if not home.run.exists():
        return False
    lock.acquire()
    try:
        found = clear_leftovers(home, read_state(home)) or found
        clear_state(home)
    finally:
        lock.release()
    return found


def describe(home: Home) -> tuple[bool, list[str]]:
    """Return whether the home is served and ready, and lines that describe it."""
    if not HomeLock(home).is_held():
        return False, [f"{home.root} is not served"]
    state = read_state(home)
    if state is None:
        return False, [f"{home.root} is being started"]
    lines = [f"{state.address}: {state.phase} (`aurum {state.command}`, home {home.root})"]
    lines.append(f"supervisor: pid {state.supervisor.pid}, log {home.log(_LOG)}")
    for name, part in state.parts.items():
        life = "running" if is_alive(part) else "not running"
        lines.append(f"{name}: pid {part.pid}, {life}, log {home.log(name)}")
    return state.phase == "ready", lines


def _launch(
    stack: Stack, lock: HomeLock, *, report: Callable[[str], None]
) -> tuple[subprocess.Popen[bytes], int]:
    """Prepare the stack in this process and start its supervisor, which takes over the lock.

    Returns:
        The supervisor, and the number of bytes of its log that were already reported.

    """
    log = stack.home.log(_LOG)
    rotate_log(log)
    with log.open("wb") as output:

        def tee(line: str) -> None:
            output.write(f"{line}\n".encode())
            report(line)

        command = stack.prepare(lock, report=tee)
        output.flush()
        said = output.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=stack.environment(),
            start_new_session=True,
            pass_fds=[lock.make_inheritable()],
        )
    return process, said


def _follow(
    process: subprocess.Popen[bytes], home: Home, said: int, *, report: Callable[[str], None]
) -> None:
    """Report the supervisor's output until it is ready; raises ServingError if it ends."""
    with home.log(_LOG).open(encoding="utf-8", errors="replace") as log:
        log.seek(said)
        last = ""
        while True:
            ended = process.poll() is not None
            state = read_state(home)
            ready = state is not None and state.phase == "ready"
            for line in log.read().splitlines():
                if last:
                    report(last)
                last = line
            if ended:
                message = last.removeprefix("error: ") or "the supervisor ended without a message"
                raise ServingError(message)
            if ready:
                report(last)
                return
            time.sleep(_POLL_SECONDS)


def _join_running(stack: Stack, *, report: Callable[[str], None]) -> None:
    state = _running_state(stack.home)
    if state.command != stack.command:
        message = (
            f"{stack.home.root} is already served at {state.address} by `aurum {state.command}` "
            f"(pid {state.supervisor.pid}); stop it with `aurum down`"
        )
        raise AlreadyRunningError(message)
    deadline = time.monotonic() + 2 * stack.settings.triton_start_timeout_seconds
    while state.phase != "ready":
        if time.monotonic() > deadline or not HomeLock(stack.home).is_held():
            message = f"the start under way did not become ready; log: {stack.home.log(_LOG)}"
            raise ServingError(message)
        time.sleep(_POLL_SECONDS)
        state = _running_state(stack.home)
    report(f"Already running: {state.address} (pid {state.supervisor.pid})")


def _running_state(home: Home) -> RunState:
    """Return the state of a locked home; the holder of the lock writes it immediately."""
    deadline = time.monotonic() + _STATE_APPEARS_SECONDS
    while (state := read_state(home)) is None:
        if time.monotonic() > deadline:
            message = f"{home.root} is locked by an unknown process; log: {home.log(_LOG)}"
            raise ServingError(message)
        time.sleep(_POLL_SECONDS)
    return state

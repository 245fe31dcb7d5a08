"""Programs of the engine as processes: their output goes to a log, and Ctrl-C ends them."""

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Event, Timer
from typing import Final

from tools.deploying.errors import EngineError

Log = Callable[[str], None]
_GRACE_SECONDS: Final = 10.0
_LAST_LINES: Final = 3


def ask(command: Sequence[str], *, log: Log, limit_seconds: float = 60.0) -> str:
    """Run a program that changes nothing; returns its output, which is not logged.

    Raises:
        EngineError: it is missing, fails, or takes too long.

    """
    log(f"$ {' '.join(command)}")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_seconds,
            check=False,
            start_new_session=True,
        )
    except OSError as error:
        raise EngineError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"`{' '.join(command)}` did not end within {limit_seconds:g} s"
        ) from error
    if done.returncode != 0:
        raise EngineError(_refusal(command, done.returncode, done.stderr.splitlines()))
    return done.stdout


def carry_out(
    command: Sequence[str],
    *,
    log: Log,
    limit_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end and log what it says; `environment`: instead of this process's.

    It has a session of its own, so that Ctrl-C reaches this process only, which then ends it. It
    ends also if this process is killed: the next deployment shall find nothing at work.

    Raises:
        EngineError: it is missing, fails, or takes too long.

    """
    log(f"$ {' '.join(command)}")
    try:
        process = subprocess.Popen(
            _ended_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise EngineError(f"{command[0]} cannot be run: {error.strerror}") from error
    was_late = Event()

    def end_late() -> None:
        was_late.set()
        _end(process)

    timer = Timer(limit_seconds, end_late)
    timer.daemon = True
    timer.start()
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        for line in process.stdout or ():
            text = line.rstrip()
            if text:
                log(text)
                last.append(text)
        status = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        timer.cancel()
    if was_late.is_set():
        raise EngineError(f"`{' '.join(command)}` did not end within {limit_seconds:g} s")
    if status != 0:
        raise EngineError(_refusal(command, status, list(last)))


def _ended_with_parent(command: Sequence[str]) -> list[str]:
    """Let the kernel end a program when this process is gone; without util-linux it goes on."""
    setpriv = shutil.which("setpriv")
    return [*((setpriv, "--pdeathsig", "TERM") if setpriv else ()), *command]


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process with its children, in peace if it can."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            return


def _refusal(command: Sequence[str], status: int, lines: Sequence[str]) -> str:
    # without the frame that some programs draw around it
    said = [text for line in lines if any(map(str.isalnum, text := line.strip(" \t│")))]
    reason = said[-1] if said else "it said nothing"
    return f"`{' '.join(command)}` ended with status {status}: {reason}"

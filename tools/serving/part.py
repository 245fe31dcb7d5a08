"""One supervised process: its command, its readiness, the reason of its end."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from tools.serving.errors import ServingError
from tools.serving.processes import kill_session, record
from tools.serving.state import ProcessRecord

_PROBE_EVERY_SECONDS: Final = 0.03
_END_EVERY_SECONDS: Final = 0.02
_LAST_ANSWER_SECONDS: Final = 0.1
"""Time for the last response to reach its caller before a drained part is killed."""
_GRACE_BEFORE_READY_SECONDS: Final = 2.0
_GRACE_OF_BROKEN_SECONDS: Final = 1.0
"""A broken program may never finish the requests that it has."""
_LOOK_EVERY_SECONDS: Final = 2.0
_TAIL_BYTES: Final = 16 * 1024


class Part(Protocol):
    """The supervisor's interface to a program."""

    @property
    def name(self) -> str:
        """Name in logs, state and messages."""

    @property
    def log(self) -> Path:
        """File for its output."""

    @property
    def start_timeout_seconds(self) -> float:
        """Longest time until it is ready."""

    @property
    def grace_seconds(self) -> float:
        """Longest time to end after SIGTERM."""

    def command(self) -> Sequence[str]:
        """Command line."""

    def environment(self) -> Mapping[str, str]:
        """All environment variables."""

    async def is_ready(self, *, first: bool) -> bool:
        """Check whether the program is ready.

        On the `first` start, raises ServingError if waiting cannot help.
        """

    def last_error(self) -> str:
        """Return the log line that best explains why the program ended; empty without one."""

    def is_drained(self, log_bytes: int) -> bool:
        """Whether it has no request left after SIGTERM, so that it may be killed.

        log_bytes: size of its log when the signal was sent. A part that ends by itself when it is
        drained may always return False.
        """

    def find_fault(self, pid: int) -> str:
        """Return why a program that runs cannot work any more; empty as long as it can."""

    def prepare_restart(self, report: Callable[[str], None]) -> None:
        """Repair what would prevent a restart of the program; may take a second."""

    def clean_up(self) -> None:
        """Remove files that a killed program left behind."""


class RunningPart:
    """A started part."""

    def __init__(self, part: Part, process: asyncio.subprocess.Process) -> None:
        self.part = part
        self.record: ProcessRecord = record(process.pid)
        self._process = process
        self._grace_seconds = _GRACE_BEFORE_READY_SECONDS
        self._fault = ""

    @classmethod
    async def start(cls, part: Part) -> "RunningPart":
        """Start the program in its own session; its output is appended to its log."""
        part.log.parent.mkdir(parents=True, exist_ok=True)
        with part.log.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *part.command(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    env=dict(part.environment()),
                    start_new_session=True,
                )
            except OSError as error:
                message = f"{part.name} cannot be started: {error}"
                raise ServingError(message) from error
        return cls(part, process)

    async def wait_ready(self, *, first: bool) -> None:
        """Return when the part is ready; raise ServingError if it dies or takes too long."""
        try:
            async with asyncio.timeout(self.part.start_timeout_seconds):
                while not await self.part.is_ready(first=first):
                    if self._process.returncode is not None:
                        raise ServingError(self.describe_end())
                    await asyncio.sleep(_PROBE_EVERY_SECONDS)
            # from now on it may have requests to finish before it ends
            self._grace_seconds = self.part.grace_seconds
        except TimeoutError:
            message = (
                f"{self.part.name} was not ready after {self.part.start_timeout_seconds:g} seconds"
                f"{self._last_words()}; log: {self.part.log}"
            )
            raise ServingError(message) from None

    async def wait_end(self) -> None:
        """Return when the program has ended, or runs but cannot work any more."""
        ended = asyncio.ensure_future(self._process.wait())
        suspected = ""
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=_LOOK_EVERY_SECONDS)
                if ended.done():
                    return
                found = await asyncio.to_thread(self.part.find_fault, self._process.pid)
                # what is seen once may be about to pass
                if found and found == suspected:
                    self._fault, self._grace_seconds = found, _GRACE_OF_BROKEN_SECONDS
                    return
                suspected = found
        finally:
            ended.cancel()

    def describe_end(self) -> str:
        """One line with the program's exit, its last error and its log."""
        code = self._process.returncode
        if code is None and self._fault:
            return f"{self.part.name} cannot go on: {self._fault}; log: {self.part.log}"
        how = "still runs" if code is None else f"ended with code {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        return f"{self.part.name} {how}{self._last_words()}; log: {self.part.log}"

    async def stop(self) -> None:
        """End the program and its children, by force once it is drained, and clean up.

        It is killed after the grace time in any case.
        """
        if self._process.returncode is None:
            # the log may have been removed
            log = self.part.log
            log_bytes = log.stat().st_size if log.exists() else 0
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._grace_seconds):
                    await self._wait_drained(log_bytes)
        await asyncio.to_thread(kill_session, self.record)
        await self._process.wait()
        self.part.clean_up()

    async def _wait_drained(self, log_bytes: int) -> None:
        ended = asyncio.ensure_future(self._process.wait())
        try:
            while not ended.done():
                if self.part.is_drained(log_bytes):
                    await asyncio.wait({ended}, timeout=_LAST_ANSWER_SECONDS)
                    return
                await asyncio.wait({ended}, timeout=_END_EVERY_SECONDS)
        finally:
            ended.cancel()

    def _last_words(self) -> str:
        words = self.part.last_error()
        return f": {words}" if words else ""


def last_line(log: Path) -> str:
    """Return the last line of a log that says something; empty without one."""
    try:
        tail = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else ""

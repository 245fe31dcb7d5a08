"""Processes that a run kills, stops and starts again, with all that they started."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

_START_SECONDS: Final = 90.0
_END_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.1
_ONE_STOP_SECONDS: Final = 0.09
_ONE_GO_SECONDS: Final = 0.01

Ready = Callable[[], Awaitable[bool]]
"""Whether a program answers."""


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it; empty if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and all that descend from it."""
    for process in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextlib.asynccontextmanager
async def throttled(find_pid: Callable[[], int | None]) -> AsyncIterator[None]:
    """Let a process run for a tenth of the time only, until the end of the block."""
    last: list[int] = []

    async def stutter() -> None:
        while True:
            pid = find_pid()
            if pid is not None:
                last[:] = [pid]
                send(pid, signal.SIGSTOP)
                await asyncio.sleep(_ONE_STOP_SECONDS)
                send(pid, signal.SIGCONT)
            await asyncio.sleep(_ONE_GO_SECONDS)

    work = asyncio.create_task(stutter())
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        for pid in last:
            send(pid, signal.SIGCONT)


@dataclass(slots=True)
class Program:
    """A program that the run itself starts, and starts again after it killed it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    ready: Ready
    user: int | None = None
    end_signal: signal.Signals = signal.SIGTERM
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """Process id; None while it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    async def start(self) -> None:
        """Start it and wait until it answers; raises TimeoutError with the end of its log."""
        with self.log.open("ab") as log:
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                list(self.command),
                env=dict(self.environment),
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
                group=None if self.user is None else self.user,
            )
        until = time.monotonic() + _START_SECONDS
        while not await self.ready():
            if time.monotonic() > until or self._process.poll() is not None:
                words = self.log.read_text(errors="replace")[-1500:]
                message = f"{self.name} did not start: {words}"
                raise TimeoutError(message)
            await asyncio.sleep(_LOOK_SECONDS)

    async def kill(self) -> None:
        """End it and all it started with SIGKILL."""
        if self.pid is not None:
            send(self.pid, signal.SIGKILL)
        await self._gone()

    async def end(self) -> None:
        """End it as an operator would, by force after a while."""
        if self._process is None:
            return
        if self.pid is not None:
            send(self.pid, signal.SIGCONT)
            os.kill(self._process.pid, self.end_signal)
        try:
            await asyncio.to_thread(self._process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            await self.kill()

    async def _gone(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait, _END_SECONDS)


async def answers(
    port: int, *, send_first: bytes = b"", expect: bytes = b"", host: str = "127.0.0.1"
) -> bool:
    """Whether a port, of this machine by default, accepts a connection and answers as expected."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(send_first)
                return not expect or (await reader.read(64)).startswith(expect)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def children_with(pid: int | None, words: str) -> Iterator[int]:
    """Processes below one, by a part of their command line."""
    for process in family(pid)[1:] if pid is not None else []:
        with contextlib.suppress(psutil.Error):
            if words in " ".join(process.cmdline()):
                yield process.pid

"""What can be done to each component: kill, pause, slow down, garble; and how it ends."""

import asyncio
import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.failures.programs import send, throttled
from benchmarks.failures.proxy import Mode
from benchmarks.failures.stack import Stack
from gateway.vectors.edge.protocol import MANIFEST

Kind = Literal["killed", "paused", "slow", "garbage", "flipped"]
KINDS: Final[tuple[Kind, ...]] = ("killed", "paused", "slow", "garbage", "flipped")
_PROXIES: Final = {
    "triton": ("triton", "triton-http"),
    "redis": ("redis",),
    "postgresql": ("records",),
    "objects": ("objects",),
}
_MODES: Final[dict[Kind, Mode]] = {"slow": "slow", "garbage": "garbage", "flipped": "flip"}
_SQLITE_HEADER_BYTES: Final = 100

Pid = Callable[[], int | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One component and what happens to it; `begin` is a context, at whose end it is over.

    repairs_itself: another process starts it again at once, so that it is over when it began.
    """

    part: str
    kind: Kind
    begin: Callable[[Stack], AbstractAsyncContextManager[None]]
    repairs_itself: bool = False

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.part} {self.kind}"


@asynccontextmanager
async def _killed(pid: Pid) -> AsyncIterator[None]:
    """Kill a process that another one starts again."""
    found = pid()
    if found is None:
        raise RuntimeError("the process to kill does not run")
    os.kill(found, signal.SIGKILL)
    yield


@asynccontextmanager
async def _paused(pid: Pid) -> AsyncIterator[None]:
    found = pid()
    if found is None:
        raise RuntimeError("the process to pause does not run")
    send(found, signal.SIGSTOP)
    try:
        yield
    finally:
        send(found, signal.SIGCONT)


@asynccontextmanager
async def _ended(stack: Stack, program: str) -> AsyncIterator[None]:
    """Kill a server of the run, and start it again at the end."""
    await stack.programs[program].kill()
    try:
        yield
    finally:
        await stack.programs[program].start()


@asynccontextmanager
async def _proxied(stack: Stack, part: str, mode: Mode) -> AsyncIterator[None]:
    for name in _PROXIES[part]:
        stack.proxies[name].become(mode)
    try:
        yield
    finally:
        for name in _PROXIES[part]:
            stack.proxies[name].become("pass")


@asynccontextmanager
async def _unreadable(stack: Stack) -> AsyncIterator[None]:
    """Kill the vector engine, which then finds garbage in the place of its collections' heads."""
    heads = {path: path.read_bytes() for path in (stack.home / "vectors").glob(f"*/{MANIFEST}")}
    for path in heads:
        path.write_bytes(b"garbage")
    async with _killed(stack.engine_pid):
        try:
            yield
        finally:
            for path, sound in heads.items():
                path.write_bytes(sound)


@asynccontextmanager
async def _locked(stack: Stack) -> AsyncIterator[None]:
    """Hold SQLite's lock in another process's connection."""
    file = stack.home / "records.sqlite3"
    connection = sqlite3.connect(file, timeout=20, isolation_level=None, check_same_thread=False)
    await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@asynccontextmanager
async def _overwritten(stack: Stack) -> AsyncIterator[None]:
    """Overwrite the head of SQLite's file, and put it back."""
    file = stack.home / "records.sqlite3"
    with file.open("r+b") as raw:
        sound = raw.read(_SQLITE_HEADER_BYTES)
        raw.seek(0)
        raw.write(random.Random(5).randbytes(_SQLITE_HEADER_BYTES))
    try:
        yield
    finally:
        with file.open("r+b") as raw:
            raw.write(sound)


def _through_proxy(part: str) -> list[Fault]:
    return [
        Fault(part, kind, lambda stack, mode=mode: _proxied(stack, part, mode))  # type: ignore[misc]
        for kind, mode in _MODES.items()
    ]


TRITON: Final = [
    Fault("triton", "killed", lambda stack: _killed(stack.triton_pid), True),
    Fault("triton", "paused", lambda stack: _paused(stack.triton_pid)),
    *_through_proxy("triton"),
]
REDIS: Final = [
    Fault("redis", "killed", lambda stack: _ended(stack, "redis")),
    Fault("redis", "paused", lambda stack: _paused(lambda: stack.programs["redis"].pid)),
    *_through_proxy("redis"),
]
VECTORS: Final = [
    Fault("vectors", "killed", lambda stack: _killed(stack.engine_pid), True),
    Fault("vectors", "paused", lambda stack: _paused(stack.engine_pid)),
    Fault("vectors", "slow", lambda stack: throttled(stack.engine_pid)),
    Fault("vectors", "garbage", _unreadable),
]
POSTGRESQL: Final = [
    Fault("postgresql", "killed", lambda stack: _ended(stack, "records")),
    Fault("postgresql", "paused", lambda stack: _paused(lambda: stack.programs["records"].pid)),
    *_through_proxy("postgresql"),
]
OBJECTS: Final = [
    Fault("objects", "killed", lambda stack: _ended(stack, "objects")),
    Fault("objects", "paused", lambda stack: _paused(lambda: stack.programs["objects"].pid)),
    *_through_proxy("objects"),
]
WORKER: Final = [
    Fault("worker", "killed", lambda stack: _killed(stack.worker_pid), True),
    Fault("worker", "paused", lambda stack: _paused(stack.worker_pid)),
    Fault("worker", "slow", lambda stack: throttled(stack.worker_pid)),
]
SQLITE: Final = [
    Fault("sqlite", "paused", _locked),
    Fault("sqlite", "garbage", _overwritten),
]
GATEWAY: Final = [
    Fault("gateway", "killed", lambda stack: _killed(stack.gateway_pid), True),
    Fault("gateway", "paused", lambda stack: _paused(stack.gateway_pid)),
]

"""The stack of a run: supervised Triton and gateway, its other servers, a proxy before each."""

import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from benchmarks.failures.objects import PORTS as OBJECT_PORTS
from benchmarks.failures.objects import object_server
from benchmarks.failures.objects import variables as object_variables
from benchmarks.failures.postgres import postgres
from benchmarks.failures.programs import Program, answers, children_with
from benchmarks.failures.proxy import Proxy
from benchmarks.support.served import CHECKOUT

DEADLINE_SECONDS: Final = 5.0
"""Deadline of a request in a run; the gateway's own default is longer, and so would a run be."""
FIRST_PORT: Final = 21_600
_ENGINE: Final = "gateway.vectors.edge.process"
_SERVE: Final = (sys.executable, "-m", "tools", "serve")

Records = Literal["sqlite", "postgresql"]


@dataclass(slots=True)
class Stack:
    """What runs, and how to reach it."""

    home: Path
    port: int
    triton: Program
    gateway: Program
    proxies: dict[str, Proxy]
    programs: dict[str, Program] = field(default_factory=dict)
    """Servers that the run starts again by itself, as a machine's init would."""

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"http://127.0.0.1:{self.port}"

    def triton_pid(self) -> int | None:
        """Process id of `tritonserver` now."""
        return next(children_with(self.triton.pid, "bin/tritonserver"), None)

    def engine_pid(self) -> int | None:
        """Process id of Qdrant Edge now."""
        return next(children_with(self.gateway.pid, _ENGINE), None)

    def worker_pid(self) -> int | None:
        """Process id of the worker now."""
        return next(children_with(self.gateway.pid, "gateway.worker"), None)

    def gateway_pid(self) -> int | None:
        """Process id of the gateway itself now."""
        return next(children_with(self.gateway.pid, "-m gateway"), None)


@asynccontextmanager
async def running(
    folder: Path,
    *,
    records: Records = "postgresql",
    first_port: int = FIRST_PORT,
    **settings: str,
) -> AsyncIterator[Stack]:
    """Start everything below `folder`; end everything at the end of the block.

    With PostgreSQL, images of jobs lie in an S3 server, otherwise in a folder.

    first_port: all ports are free ones from here on. settings: further variables of the gateway.
    """
    http, grpc, metrics, port, redis_port, database_port, s3_port, *outside = quiet_ports(
        12 + OBJECT_PORTS, first=first_port
    )
    proxies = {
        "triton": Proxy(outside[0], target_port=grpc),
        "triton-http": Proxy(outside[1], target_port=http),
        "redis": Proxy(outside[2], target_port=redis_port),
        "records": Proxy(outside[3], target_port=database_port),
        "objects": Proxy(outside[4], target_port=s3_port),
    }
    triton_ports = {
        "AURUM_TRITON_HTTP_PORT": str(http),
        "AURUM_TRITON_GRPC_PORT": str(grpc),
        "AURUM_TRITON_METRICS_PORT": str(metrics),
    }
    triton = _serve(folder, "triton", "triton", grpc, **triton_ports)
    named = {
        "AURUM_PORT": str(port),
        "AURUM_TRITON_GRPC_URL": f"127.0.0.1:{outside[0]}",
        "AURUM_TRITON_HTTP_URL": f"http://127.0.0.1:{outside[1]}",
        "AURUM_REDIS_URL": f"redis://127.0.0.1:{outside[2]}",
        "AURUM_REQUEST_TIMEOUT_SECONDS": str(DEADLINE_SECONDS),
        # known answers shall stay known, however long a part is away
        "AURUM_CACHE_MEMORY_TTL_SECONDS": "3600",
        # a busy machine is no failure
        "AURUM_MAX_WAIT_SECONDS": str(10 * DEADLINE_SECONDS),
        # a dead worker's images are taken over after this time
        "AURUM_JOB_LEASE_SECONDS": "6",
        **settings,
    }
    if records == "postgresql":
        named["AURUM_DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{outside[3]}/postgres"
        named |= object_variables(outside[4])
    gateway = _serve(folder, "gateway", None, port, **named)
    stack = Stack(folder / "gateway", port, triton, gateway, proxies)
    stack.programs["redis"] = _redis(folder, redis_port)
    if records == "postgresql":
        stack.programs["objects"] = object_server(folder, s3_port, outside[5:])
    async with AsyncExitStack() as opened:
        for proxy in proxies.values():
            await opened.enter_async_context(proxy)
        if records == "postgresql":
            database = await opened.enter_async_context(postgres(database_port))
            stack.programs["records"] = database
        first = (program for name, program in stack.programs.items() if name != "records")
        for program in (triton, *first, gateway):
            opened.push_async_callback(program.end)
            await program.start()
        yield stack


def quiet_ports(count: int, *, first: int) -> list[int]:
    """Find ports that nothing listens on, below those that outgoing connections get.

    A server that is killed gets the same port again.
    """
    found: list[int] = []
    for port in range(first, first + 10 * count):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    message = f"there are not {count} free ports from {first} on"
    raise OSError(message)


def _serve(folder: Path, name: str, extent: str | None, port: int, **settings: str) -> Program:
    """`aurum serve` or `aurum serve triton` with a home of its own below the folder."""
    home = folder / name
    home.mkdir()
    unpacked = CHECKOUT / ".aurum" / "triton"
    if unpacked.exists():
        (home / "triton").symlink_to(unpacked.resolve())
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AURUM_")}
    environment = {**kept, "AURUM_HOME": str(home), "PYTHONPATH": str(CHECKOUT), **settings}

    async def ready() -> bool:
        if extent is not None:
            log = folder / f"{name}.log"
            return b"Triton is ready" in log.read_bytes()
        return await answers(
            port, send_first=b"GET /api/health/ready HTTP/1.0\r\n\r\n", expect=b"HTTP/1.0 200"
        )

    command = [*_SERVE, extent] if extent else list(_SERVE)
    return Program(name, command, environment, folder / f"{name}.log", ready)


def _redis(folder: Path, port: int) -> Program:
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("redis-server is not installed")

    async def ready() -> bool:
        return await answers(port, send_first=b"PING\r\n", expect=b"+PONG")

    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    return Program("redis", command, dict(os.environ), folder / "redis.log", ready)

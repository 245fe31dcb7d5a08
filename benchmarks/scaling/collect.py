"""Measure the times that feed the simulation: run it on a machine with nothing else to do.

    python -m benchmarks.scaling.collect ../shared/models [--photos 200]

Starts a stack, a Redis and a PostgreSQL of its own and writes
`benchmarks/results/scaling_samples.json`, with the load average before and after. It takes a
minute. The cache is off: every answer is computed.
"""

import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Final

import typer

from benchmarks.failures.postgres import postgres
from benchmarks.failures.programs import Program, answers
from benchmarks.scaling.samples import Samples, write
from benchmarks.support import load
from benchmarks.support.photos import one_face
from benchmarks.support.served import DETECTOR, EMBEDDER, free_ports, prepared
from gateway.cache.redis import RedisCache
from gateway.records.audit import AuditRecords
from gateway.records.database import Database
from gateway.records.types import AuditLine
from gateway.redis import Redis, connect

_WARM_UP: Final = 20
_CACHED: Final = 2000
_ANSWER_BYTES: Final = 4096
_LINES: Final = 200
_BATCH: Final = 256
"""Lines of one transaction at most, as `gateway.records.audit` writes them."""
_BATCHES: Final = 8
_FLUSHES: Final = 50
_PAGE: Final = bytes(8192)
_PATIENCE_SECONDS: Final = 5.0


def collect(models: Path, photos: int) -> Samples:
    """Measure all of it, one after the other."""
    before = os.getloadavg()
    service, start = _answers(models, photos)
    transaction, line = asyncio.run(_audit())
    redis = asyncio.run(_redis())
    return Samples(
        service=service,
        start=start,
        redis=redis,
        audit_transaction=transaction,
        audit_line=line,
        flush=_flush(),
        provenance={
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "command": " ".join(["python -m benchmarks.scaling.collect", *sys.argv[1:]]),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "networks": [DETECTOR, EMBEDDER],
            "load_average_before": [round(each, 1) for each in before],
            "load_average_after": [round(each, 1) for each in os.getloadavg()],
        },
    )


def _answers(models: Path, photos: int) -> tuple[tuple[float, ...], float]:
    """Time single photos, and the start of the stack up to its first answer; in seconds."""
    photo = one_face()
    with prepared(models, AURUM_CACHE="off", AURUM_LOG_LEVEL="warning") as stack:
        url = f"{stack.served.url}/api/ml/embed"
        started = time.perf_counter()
        stack.up()
        try:
            load.run(load.closed(url, photo, callers=1, count=1))
            start = time.perf_counter() - started
            load.run(load.closed(url, photo, callers=1, count=_WARM_UP))
            found = load.run(load.closed(url, photo, callers=1, count=photos))
        finally:
            stack.down()
    if set(found.seconds) != {200}:
        message = f"not every photo was answered: {dict(found.counts)}"
        raise RuntimeError(message)
    return tuple(round(each, 6) for each in found.seconds[200]), round(start, 3)


async def _audit() -> tuple[float, float]:
    """Return seconds of a transaction with one line, and of each line more."""
    (port,) = free_ports(1)
    async with postgres(port):
        database = await Database.open(f"postgresql://postgres@127.0.0.1:{port}/postgres")
        try:
            audit = AuditRecords(database)
            one = []
            for number in range(_LINES):
                started = time.perf_counter()
                await audit.add(_line(number))
                one.append(time.perf_counter() - started)
            many = []
            for _ in range(_BATCHES):
                started = time.perf_counter()
                await asyncio.gather(*(audit.add(_line(number)) for number in range(_BATCH)))
                many.append(time.perf_counter() - started)
        finally:
            await database.close()
    line = max(0.0, (median(many) - median(one)) / (_BATCH - 1))
    return median(one) - line, line


def _line(number: int) -> AuditLine:
    return AuditLine(
        at=time.time(),
        tenant="default",
        actor="benchmark",
        action="search",
        collection="people",
        receipt=str(number),
        counts={"faces": 1},
        request_id=f"benchmark-{number}",
    )


async def _redis() -> float:
    """Return processor seconds of Redis for one answer that is looked up, missed and stored."""
    (port,) = free_ports(1)
    url = f"redis://127.0.0.1:{port}"
    async with _redis_server(port):
        client = connect(url, purpose="benchmark", timeout_seconds=_PATIENCE_SECONDS)
        cache = RedisCache(url, ttl_seconds=3600, timeout_seconds=_PATIENCE_SECONDS)
        try:
            before = await _processor_seconds(client)
            for number in range(_CACHED):
                image = f"{number:064x}"
                await cache.get(image, ["embed"])
                await cache.set(image, "embed", os.urandom(_ANSWER_BYTES))
            after = await _processor_seconds(client)
        finally:
            await cache.close()
            await client.aclose()
    return (after - before) / _CACHED


async def _processor_seconds(client: Redis) -> float:
    found = await client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


@asynccontextmanager
async def _redis_server(port: int) -> AsyncIterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]

        async def ready() -> bool:
            return await answers(port, send_first=b"PING\r\n", expect=b"+PONG")

        server = Program("redis", command, dict(os.environ), Path(folder) / "redis.log", ready)
        try:
            await server.start()
            yield
        finally:
            await server.end()


def _flush() -> float:
    """Return the median seconds of writing a page so that it survives a power cut."""
    times = []
    with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:
        for _ in range(_FLUSHES):
            started = time.perf_counter()
            file.write(_PAGE)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times)


def main(
    models: Annotated[Path, typer.Argument(exists=True, help="Folder of the networks.")],
    photos: Annotated[int, typer.Option(help="Photos of which the times are kept.")] = 200,
) -> None:
    """Measure and write the file."""
    write(collect(models, photos))


if __name__ == "__main__":
    typer.run(main)

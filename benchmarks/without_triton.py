"""Kill Triton under load for a minute: who answers, how long it takes, and when Triton is back.

    python -m benchmarks.without_triton [--seconds 20 --away 60 --callers 4]

Starts a Triton and a gateway of its own with the built-in networks and writes
`benchmarks/results/without_triton.json`. Every answer is computed. The callers run on the same
cores, so each figure includes their cost.
"""

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import aiohttp
import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.support.served import CHECKOUT, free_ports
from triton_python_backend import contract

PORTRAIT: Final = Path(contract.__file__).with_name("portrait.jpg")
RESULTS: Final = CHECKOUT / "benchmarks" / "results" / "without_triton.json"
_START_SECONDS: Final = 180.0
_REFUSED_PAUSE_SECONDS: Final = 0.2
PHASES: Final = ("before", "away", "after")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: time of its request, latency, and the engine or the error code."""

    phase: str
    seconds: float
    status: int
    engine: str


@dataclass(frozen=True, slots=True)
class World:
    """The gateway's address, and the environment that both processes share."""

    url: str
    environment: dict[str, str]


@contextmanager
def prepared() -> Iterator[World]:
    """Choose ports and folders; Triton and the gateway have homes of their own."""
    with tempfile.TemporaryDirectory(prefix="aurum-bench-") as scratch:
        repository = Path(scratch) / "model_repository"
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / "model_repository", repository, ignore=ignore)
        port, http, grpc, metrics = free_ports(4)
        yield World(
            f"http://127.0.0.1:{port}",
            {
                **os.environ,
                "AURUM_HOME": str(Path(scratch) / "triton"),
                "AURUM_MODEL_REPOSITORY": str(repository),
                "AURUM_PORT": str(port),
                "AURUM_TRITON_HTTP_PORT": str(http),
                "AURUM_TRITON_GRPC_PORT": str(grpc),
                "AURUM_TRITON_METRICS_PORT": str(metrics),
                "AURUM_CACHE": "off",
                "AURUM_PORTRAIT_INTERVAL_SECONDS": "0",
                "AURUM_LOG_LEVEL": "error",
            },
        )


def start_triton(world: World) -> "subprocess.Popen[bytes]":
    """Start Triton under its supervisor."""
    command = [sys.executable, "-m", "tools", "serve", "triton"]
    return _start(command, world.environment)


def start_gateway(world: World) -> "subprocess.Popen[bytes]":
    """Start the gateway."""
    grpc = f"127.0.0.1:{world.environment['AURUM_TRITON_GRPC_PORT']}"
    home = str(Path(world.environment["AURUM_HOME"]).with_name("gateway"))
    more = {"AURUM_TRITON_GRPC_URL": grpc, "AURUM_HOME": home}
    return _start([sys.executable, "-m", "gateway"], world.environment | more)


def _start(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, stderr=None
    )


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it started, at once."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in family:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family)


async def until_ready(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until Triton and the gateway are ready."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                async with session.get(f"{url}/api/health/ready") as response:
                    if (await response.json(content_type=None))["status"] == "ready":
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)


async def measure(
    world: World, triton: "subprocess.Popen[bytes]", *, seconds: float, away: float, callers: int
) -> tuple[list[Reply], float, "subprocess.Popen[bytes]"]:
    """Call throughout; returns the replies, how long Triton took to be used again, and Triton."""
    replies: list[Reply] = []
    phase = PHASES[0]
    ended = asyncio.Event()
    photo = PORTRAIT.read_bytes()

    async def call(session: aiohttp.ClientSession) -> None:
        while not ended.is_set():
            asked_in, started = phase, time.perf_counter()
            engine, status = "no connection", 0
            try:
                async with session.post(f"{world.url}/api/ml/score", data=photo) as response:
                    body = await response.json(content_type=None)
                    status = response.status
                    engine = body.get("engine") or body["code"]
            except aiohttp.ClientError:
                pass
            replies.append(Reply(asked_in, time.perf_counter() - started, status, engine))
            if status != 200:
                await asyncio.sleep(_REFUSED_PAUSE_SECONDS)

    headers = {"Content-Type": "image/jpeg"}
    async with aiohttp.ClientSession(headers=headers) as session:
        await until_ready(session, world.url)
        calling = [asyncio.create_task(call(session)) for _ in range(callers)]
        await asyncio.sleep(seconds)
        phase = PHASES[1]
        await asyncio.to_thread(kill, triton)
        await asyncio.sleep(away)
        triton = start_triton(world)
        returned = time.perf_counter()
        await until_ready(session, world.url)
        back = time.perf_counter() - returned
        phase = PHASES[2]
        await asyncio.sleep(seconds)
        ended.set()
        await asyncio.gather(*calling)
    return replies, back, triton


def summarise(replies: list[Reply], seconds: dict[str, float]) -> dict[str, Any]:
    """Count and time the replies by phase."""
    summary: dict[str, Any] = {}
    for phase in PHASES:
        found = [reply for reply in replies if reply.phase == phase]
        times = sorted(reply.seconds * 1000 for reply in found if reply.status == 200)
        cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else []
        summary[phase] = {
            "requests": len(found),
            "answered": len(times) / len(found) if found else None,
            "by": Counter(reply.engine for reply in found if reply.status == 200),
            "refused": Counter(reply.engine for reply in found if reply.status != 200),
            "answers_per_second": len(times) / seconds[phase],
            "p50_ms": cuts[49] if cuts else None,
            "p95_ms": cuts[94] if cuts else None,
            "longest_ms": times[-1] if times else None,
        }
    return summary


def main(
    seconds: Annotated[float, typer.Option(help="Seconds before and after.")] = 20.0,
    away: Annotated[float, typer.Option(help="Seconds without Triton.")] = 60.0,
    callers: Annotated[int, typer.Option(help="Callers that wait for their answers.")] = 4,
) -> None:
    """Measure, print a table, write the results."""
    console = Console()
    with prepared() as world:
        triton, gateway = start_triton(world), start_gateway(world)
        try:
            replies, back, triton = asyncio.run(
                measure(world, triton, seconds=seconds, away=away, callers=callers)
            )
        finally:
            kill(gateway)
            triton.terminate()
            triton.wait()
    lengths = {PHASES[0]: seconds, PHASES[1]: away + back, PHASES[2]: seconds}
    summary = summarise(replies, lengths)
    table = Table("phase", "requests", "answered", "by", "per second", "p50 ms", "p95 ms")
    for phase, row in summary.items():
        by = ", ".join(f"{engine} {count}" for engine, count in row["by"].items())
        numbers = [row["answers_per_second"], row["p50_ms"], row["p95_ms"]]
        shown = ["" if each is None else f"{each:.1f}" for each in numbers]
        share = "" if row["answered"] is None else f"{row['answered']:.2%}"
        table.add_row(phase, str(row["requests"]), share, by, *shown)
    console.print(table)
    console.print(f"Triton was ready {back:.1f} s after its start.")
    result = {
        "cores": os.cpu_count(),
        "callers": callers,
        "seconds": seconds,
        "away_seconds": away,
        "back_after_seconds": back,
        "phases": summary,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)

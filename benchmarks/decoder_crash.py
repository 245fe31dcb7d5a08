"""Crash decoder processes under load: who else notices, and how soon another one decodes.

    python -m benchmarks.decoder_crash [--seconds 10 --callers 8 --every 0.5]

Starts a Triton and a gateway of its own with the built-in networks, and sends SIGSEGV to a decoder
process again and again, where a fault of a decoder would raise it. Then it compares decoding in a
process of its own with decoding in the same process, with the memory settings of a stage. Writes
`benchmarks/results/decoder_crash.json`.
"""

import asyncio
import io
import json
import multiprocessing
import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

import aiohttp
import psutil
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.support.served import CHECKOUT
from benchmarks.without_triton import (
    PORTRAIT,
    World,
    kill,
    prepared,
    start_gateway,
    start_triton,
    until_ready,
)
from tools.serving.triton_environment import KEEP_MEMORY
from triton_python_backend import decoding
from triton_python_backend.decoders.pool import DecoderPool
from triton_python_backend.formats.reader import read_header

RESULTS: Final = CHECKOUT / "benchmarks" / "results" / "decoder_crash.json"
_PROGRAM: Final = "triton_python_backend.decoders.process"
_POLL_SECONDS: Final = 0.002
_SIZES: Final = ((800, 600), (1600, 1200), (4000, 3000))
_REPEATS: Final = 30
_WARM_UP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: whether decoders were crashed meanwhile, and what came."""

    crashing: bool
    seconds: float
    outcome: str


def decoders_of(family: psutil.Process) -> list[psutil.Process]:
    """List the processes that decode: forks of one that runs the same program."""
    found = []
    for each in family.children(recursive=True):
        with suppress(psutil.Error):
            parent = each.parent()
            if parent and _PROGRAM in each.cmdline() and _PROGRAM in parent.cmdline():
                found.append(each)
    return found


async def crash(family: psutil.Process) -> float | None:
    """Crash a decoder; returns the seconds until its parent has forked another."""
    decoders = decoders_of(family)
    if not decoders:
        return None
    chosen = random.choice(decoders)
    parent = chosen.parent()
    known = {each.pid for each in decoders}
    with suppress(psutil.Error):
        chosen.send_signal(signal.SIGSEGV)
        started = time.perf_counter()
        async with asyncio.timeout(5):
            while parent is not None:
                if {each.pid for each in parent.children()} - known:
                    return time.perf_counter() - started
                await asyncio.sleep(_POLL_SECONDS)
    return None


async def measure(
    world: World, family: psutil.Process, *, seconds: float, callers: int, every: float
) -> tuple[list[Reply], list[float], int]:
    """Call throughout; returns the replies, how long replacements took, and the crashes."""
    replies: list[Reply] = []
    crashing = False
    ended = asyncio.Event()
    photo = PORTRAIT.read_bytes()

    async def call(session: aiohttp.ClientSession) -> None:
        while not ended.is_set():
            asked, started = crashing, time.perf_counter()
            async with session.post(f"{world.url}/api/ml/score", data=photo) as response:
                body = await response.json(content_type=None)
                outcome = f"{response.status} {body.get('engine') or body['code']}"
            replies.append(Reply(asked, time.perf_counter() - started, outcome))

    replaced: list[float] = []
    crashes = 0
    headers = {"Content-Type": "image/jpeg"}
    async with aiohttp.ClientSession(headers=headers) as session:
        await until_ready(session, world.url)
        calling = [asyncio.create_task(call(session)) for _ in range(callers)]
        # the gateway learns how fast this machine is before it is measured
        await asyncio.sleep(_WARM_UP_SECONDS)
        replies.clear()
        await asyncio.sleep(seconds)
        crashing = True
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            took = None
            with suppress(TimeoutError):
                took = await crash(family)
            crashes += 1
            if took is not None:
                replaced.append(took)
            await asyncio.sleep(every)
        ended.set()
        await asyncio.gather(*calling)
    return replies, replaced, crashes


def summarise(replies: list[Reply], seconds: float) -> dict[str, Any]:
    """Count and time the replies without and with crashes."""
    summary: dict[str, Any] = {}
    for name, crashing in (("before", False), ("crashing", True)):
        found = [reply for reply in replies if reply.crashing == crashing]
        times = sorted(reply.seconds * 1000 for reply in found)
        cuts = statistics.quantiles(times, n=100, method="inclusive")
        summary[name] = {
            "answers": Counter(reply.outcome for reply in found),
            "answers_per_second": round(len(found) / seconds, 1),
            "p50_ms": round(cuts[49], 1),
            "p99_ms": round(cuts[98], 1),
            "longest_ms": round(times[-1], 1),
        }
    return summary


def compare() -> list[dict[str, Any]]:
    """Compare processor times of decoding, in a process with the memory settings of a stage."""
    # the allocator reads them when a process starts
    os.environ.update(KEEP_MEMORY)
    with multiprocessing.get_context("spawn").Pool(1) as started:
        return started.apply(costs)


def costs() -> list[dict[str, Any]]:
    """Processor time of decoding JPEGs in this process, and in one of its own."""
    pool = DecoderPool(keep=1, log=lambda _: None)
    rows = []
    try:
        pool.start()
        (decoder,) = (each for each in decoders_of(psutil.Process()))
        for size in _SIZES:
            buffer = io.BytesIO()
            Image.open(PORTRAIT).convert("RGB").resize(size).save(buffer, "JPEG", quality=90)
            data = buffer.getvalue()
            rows.append(
                {
                    "size": list(size),
                    "same_process_ms": _processor_ms(decoding.decode_with, data, decoder),
                    "own_process_ms": _processor_ms(pool.decode_with, data, decoder),
                }
            )
    finally:
        pool.close()
    return rows


def _processor_ms(decode: Callable[..., Any], data: bytes, decoder: psutil.Process) -> float:
    header = read_header(data)

    def used() -> float:
        times = decoder.cpu_times()
        return time.process_time() + times.user + times.system

    decode(header, data)
    before = used()
    for _ in range(_REPEATS):
        decode(header, data)
    return round((used() - before) * 1000 / _REPEATS, 2)


def main(
    seconds: Annotated[float, typer.Option(help="Seconds without and with crashes.")] = 10.0,
    callers: Annotated[int, typer.Option(help="Callers that wait for their answers.")] = 8,
    every: Annotated[float, typer.Option(help="Seconds between two crashes.")] = 0.5,
) -> None:
    """Measure, print a table, write the results."""
    console = Console()
    with prepared() as world:
        triton = start_triton(world)
        gateway = start_gateway(world)
        try:
            replies, replaced, crashes = asyncio.run(
                measure(
                    world,
                    psutil.Process(triton.pid),
                    seconds=seconds,
                    callers=callers,
                    every=every,
                )
            )
        finally:
            kill(gateway)
            kill(triton)
    result = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "callers": callers,
        "seconds": seconds,
        "crashes": crashes,
        "replaced_ms": [round(each * 1000, 1) for each in sorted(replaced)],
        **summarise(replies, seconds),
        "processor_time": compare(),
    }
    table = Table("phase", "answers", "per second", "p50 ms", "p99 ms", "longest ms")
    for phase in ("before", "crashing"):
        row = result[phase]
        table.add_row(
            phase,
            ", ".join(f"{count} x {what}" for what, count in row["answers"].items()),
            *(str(row[name]) for name in ("answers_per_second", "p50_ms", "p99_ms", "longest_ms")),
        )
    console.print(table)
    console.print(f"{crashes} crashes; replaced after (ms): {result['replaced_ms']}")
    console.print(f"processor time: {result['processor_time']}")
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)

"""Aurum over HTTP beside insightface in-process: same photos, same weights, same cores, one run.

    python -m benchmarks.compare --insightface-python .venv-golden/bin/python \
        --detector det_500m.onnx --embedder mobilefacenet_arcface_128.onnx PHOTO...

The running gateway must serve the same two networks. Each round measures one after the other:
latency with one caller, then throughput (eight callers of the gateway; one single-threaded
process per core of insightface). The order changes from round to round, so that a machine that
slows down slows both. Ratios are taken round by round and their median is the result.
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

WORKER = Path(__file__).with_name("insightface_worker.py")
CALLERS = 8


@dataclass(frozen=True, slots=True)
class Round:
    """One alternated pair: seconds per photo at concurrency 1, photos per second when loaded."""

    latency_aurum: float
    latency_insightface: float
    throughput_aurum: float
    throughput_insightface: float


class Gateway:
    """Calls `/api/ml/embed` of a running gateway."""

    def __init__(self, url: str, photo: Path) -> None:
        self._url = f"{url}/api/ml/embed"
        self._data = photo.read_bytes()

    def latencies(self, count: int) -> list[float]:
        """Seconds of each of `count` calls, one after the other."""
        return asyncio.run(self._call(count, 1))

    def throughput(self, count: int) -> float:
        """Photos per second with eight callers."""
        started = time.perf_counter()
        asyncio.run(self._call(count, CALLERS))
        return count / (time.perf_counter() - started)

    async def _call(self, count: int, callers: int) -> list[float]:
        seconds: list[float] = []
        left = iter(range(count))
        async with aiohttp.ClientSession() as session:

            async def caller() -> None:
                for _ in left:
                    started = time.perf_counter()
                    headers = {"Content-Type": "image/jpeg"}
                    async with session.post(self._url, data=self._data, headers=headers) as answer:
                        answer.raise_for_status()
                        await answer.read()
                    seconds.append(time.perf_counter() - started)

            await asyncio.gather(*(caller() for _ in range(callers)))
        return seconds


class Insightface:
    """insightface in processes of its own."""

    def __init__(self, python: Path, networks: tuple[Path, Path], photo: Path) -> None:
        self._command = [str(python), str(WORKER), *map(str, networks)]
        self._photo = str(photo)
        self._cores = os.cpu_count() or 1

    @contextmanager
    def started(self) -> Iterator[tuple[Callable[[int], list[float]], Callable[[int], float]]]:
        """Start one process with all threads and one single-threaded process per core."""
        with ExitStack() as stack:
            wide = stack.enter_context(self._process(self._cores))
            narrow = [stack.enter_context(self._process(1)) for _ in range(self._cores)]
            yield (lambda count: _ask([wide], count)), (lambda count: _rate(narrow, count))

    @contextmanager
    def _process(self, threads: int) -> Iterator[subprocess.Popen[str]]:
        command = [*self._command, str(threads), self._photo]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def _ask(processes: list[subprocess.Popen[str]], count: int) -> list[float]:
    for process in processes:
        pipe: IO[str] | None = process.stdin
        if pipe is not None:
            pipe.write(f"{count}\n")
            pipe.flush()
    seconds: list[float] = []
    for process in processes:
        line = process.stdout.readline() if process.stdout is not None else ""
        seconds += json.loads(line)["seconds"]
    return seconds


def _rate(processes: list[subprocess.Popen[str]], count: int) -> float:
    share = max(count // len(processes), 1)
    started = time.perf_counter()
    _ask(processes, share)
    return share * len(processes) / (time.perf_counter() - started)


def measure(gateway: Gateway, insightface: Insightface, *, rounds: int, count: int) -> list[Round]:
    """Alternate the two and return one `Round` per pair; the first, warm-up, is left out."""
    measured = []
    with insightface.started() as (library_latencies, library_throughput):
        for number in track(range(rounds + 1), description="rounds"):
            jobs: dict[str, Callable[[], float]] = {
                "latency_aurum": lambda: statistics.median(gateway.latencies(count)),
                "latency_insightface": lambda: statistics.median(library_latencies(count)),
                "throughput_aurum": lambda: gateway.throughput(count * 2),
                "throughput_insightface": lambda: library_throughput(count * 2),
            }
            order = list(jobs) if number % 2 else list(reversed(jobs))
            figures = {name: jobs[name]() for name in order}
            if number:
                measured.append(Round(**figures))
    return measured


def summarise(rounds: list[Round]) -> dict[str, Any]:
    """Medians and spread of the figures and of the ratios (Aurum over insightface)."""
    table = [asdict(entry) for entry in rounds]
    figures = {name: _spread([entry[name] for entry in table]) for name in table[0]}
    for kind in ("latency", "throughput"):
        figures[f"{kind}_ratio"] = _spread(
            [entry[f"{kind}_aurum"] / entry[f"{kind}_insightface"] for entry in table]
        )
    return figures


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main(
    photos: Annotated[list[Path], typer.Argument(exists=True)],
    insightface_python: Annotated[Path, typer.Option(exists=True)],
    detector: Annotated[Path, typer.Option(exists=True)],
    embedder: Annotated[Path, typer.Option(exists=True)],
    url: str = "http://127.0.0.1:8080",
    rounds: int = 5,
    count: int = 20,
    out: Path = Path("benchmarks/results/compare.json"),
) -> None:
    """Measure each photo and write the JSON and a table."""
    table = Table("photo", "figure", "median", "min", "max")
    results: dict[str, Any] = {}
    for photo in photos:
        library = Insightface(insightface_python, (detector, embedder), photo)
        results[photo.name] = summarise(
            measure(Gateway(url, photo), library, rounds=rounds, count=count)
        )
        for name, spread in results[photo.name].items():
            table.add_row(photo.name, name, *(f"{value:.4g}" for value in spread.values()))
    Console().print(table)
    report = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
        "settings": {"rounds": rounds, "calls": count, "callers": CALLERS, "warm-up rounds": 1},
        "results": results,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)

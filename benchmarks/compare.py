"""Compare Aurum over HTTP with insightface in-process: same photos, weights and cores, one run.

    python -m benchmarks.compare --insightface-python .venv-golden/bin/python \
        --detector det_500m.onnx --embedder mobilefacenet_arcface_128.onnx PHOTO...

The running gateway must serve the same two networks, with its cache off. Each round measures
latency with one caller (insightface with one thread or with all, whichever is faster), then
throughput under full load (eight callers of the gateway; one single-threaded insightface process
per core). The order alternates from round to round, so that a machine that slows down slows both.
The result is the median of the ratios of the rounds, with the differences between the two answers.
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import aiohttp
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.support.load import closed, run, saturated

Process = subprocess.Popen[str]

WORKER = Path(__file__).with_name("insightface_worker.py")
CALLERS = 8
_JPEG = {"Content-Type": "image/jpeg"}


@dataclass(frozen=True)
class Plan:
    """Extent of a run: alternating pairs, calls per latency, seconds per throughput."""

    rounds: int = 9
    calls: int = 20
    seconds: float = 6.0


@dataclass(frozen=True, slots=True)
class Round:
    """One alternating pair: seconds per photo for one caller, photos per second under load."""

    latency_aurum: float
    latency_insightface: float
    throughput_aurum: float
    throughput_insightface: float


@dataclass(frozen=True, slots=True)
class Answer:
    """boxes: [N,4] image pixels; embeddings: [N,D], of length 1; the largest face first."""

    boxes: npt.NDArray[np.float64]
    embeddings: npt.NDArray[np.float64]

    @classmethod
    def of(cls, boxes: list[list[float]], embeddings: list[list[float]]) -> "Answer":
        """Build an answer from JSON values: sorted by size, embeddings normalised."""
        corners, vectors = np.array(boxes, float).reshape(-1, 4), np.array(embeddings, float)
        order = np.argsort(-(corners[:, 2:] - corners[:, :2]).prod(axis=1), kind="stable")
        vectors = vectors[order] / np.linalg.norm(vectors[order], axis=1, keepdims=True)
        return cls(corners[order], vectors)

    def differs(self, other: "Answer") -> dict[str, float]:
        """Count faces and return the worst differences: corners in pixels, cosine of embeddings."""
        if len(self.boxes) != len(other.boxes):
            return {"faces": len(self.boxes), "faces_insightface": len(other.boxes)}
        # faces of nearly equal size may be in another order
        apart = np.abs(self.boxes[:, None] - other.boxes[None]).max(axis=2, initial=0)
        nearest = apart.argmin(axis=1) if len(apart) else np.zeros(0, int)
        cosines = (self.embeddings * other.embeddings[nearest]).sum(axis=1)
        return {
            "faces": len(self.boxes),
            "worst_box_pixels": float(apart.min(axis=1, initial=np.inf).max(initial=0)),
            "worst_cosine": float(cosines.min(initial=1)),
        }


class Gateway:
    """Calls `/api/ml/embed` of a running gateway."""

    def __init__(self, url: str, photo: Path) -> None:
        self._url = f"{url}/api/ml/embed"
        self._data = photo.read_bytes()

    def latency(self, count: int) -> float:
        """Return the median seconds of `count` calls, one after the other."""
        calls = run(closed(self._url, self._data, callers=1, count=count))
        return calls.percentile(0.5) / 1000

    def throughput(self, seconds: float) -> float:
        """Return photos per second with eight callers that do not pause."""
        return run(saturated(self._url, self._data, callers=CALLERS, seconds=seconds))

    def answer(self) -> Answer:
        """Return the faces of the photo."""
        faces = asyncio.run(self._answer())["faces"]
        return Answer.of([each["box"] for each in faces], [each["embedding"] for each in faces])

    async def _answer(self) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url, data=self._data, headers=_JPEG) as answer,
        ):
            answer.raise_for_status()
            return await answer.json()


@dataclass(frozen=True, slots=True)
class Reference:
    """An interpreter with insightface, and the networks that it loads."""

    python: Path
    detector: Path
    embedder: Path


class Insightface:
    """insightface in separate processes."""

    def __init__(self, reference: Reference, photo: Path) -> None:
        networks = (str(reference.detector), str(reference.embedder))
        self._command = [str(reference.python), str(WORKER), *networks]
        self._photo = str(photo)
        self._cores = os.cpu_count() or 1

    @contextmanager
    def started(self) -> Iterator["Library"]:
        """Start one process with all threads and one single-threaded process per core."""
        with ExitStack() as stack:
            wide = stack.enter_context(self._process(self._cores))
            narrow = [stack.enter_context(self._process(1)) for _ in range(self._cores)]
            yield Library(wide, narrow)

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


class Library:
    """Running insightface: a process with all threads, and one with one thread for each core."""

    def __init__(self, wide: Process, narrow: list[Process]) -> None:
        self._wide = wide
        self._narrow = narrow

    def latency(self, count: int) -> float:
        """Return the median seconds of a photo in the faster of the two kinds of process."""
        kinds = (self._wide, self._narrow[0])
        return min(float(statistics.median(_ask([one], count)[0]["seconds"])) for one in kinds)

    def throughput(self, seconds: float) -> float:
        """Return photos per second: the sum over one single-threaded process per core."""
        one = statistics.median(_ask(self._narrow, 3)[0]["seconds"])
        answers = _ask(self._narrow, max(round(seconds / one), 1))
        return float(sum(len(each["seconds"]) / sum(each["seconds"]) for each in answers))

    def answer(self) -> Answer:
        """Return the faces of the photo."""
        found = _ask([self._wide], 1)[0]
        return Answer.of(found["boxes"], found["embeddings"])


def _ask(processes: list[Process], count: int) -> list[dict[str, Any]]:
    for process in processes:
        pipe: IO[str] | None = process.stdin
        if pipe is not None:
            pipe.write(f"{count}\n")
            pipe.flush()
    lines = [one.stdout.readline() if one.stdout is not None else "" for one in processes]
    return [json.loads(line) for line in lines]


def measure(
    gateway: Gateway, insightface: Insightface, plan: Plan
) -> tuple[list[Round], dict[str, float]]:
    """Alternate the two; return one `Round` per pair without the warm-up, and the differences."""
    measured = []
    with insightface.started() as library:
        for number in track(range(plan.rounds + 1), description="rounds"):
            jobs: dict[str, Callable[[], float]] = {
                "latency_aurum": lambda: gateway.latency(plan.calls),
                "latency_insightface": lambda: library.latency(plan.calls),
                "throughput_aurum": lambda: gateway.throughput(plan.seconds),
                "throughput_insightface": lambda: library.throughput(plan.seconds),
            }
            order = list(jobs) if number % 2 else list(reversed(jobs))
            figures = {name: jobs[name]() for name in order}
            if number:
                measured.append(Round(**figures))
        differences = gateway.answer().differs(library.answer())
    return measured, differences


def summarise(rounds: list[Round]) -> dict[str, Any]:
    """Return medians and ranges of the figures and of the ratios (Aurum to insightface)."""
    table = [asdict(entry) for entry in rounds]
    figures = {name: _spread([entry[name] for entry in table]) for name in table[0]}
    for kind in ("latency", "throughput"):
        figures[f"{kind}_ratio"] = _spread(
            [entry[f"{kind}_aurum"] / entry[f"{kind}_insightface"] for entry in table]
        )
    return figures


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(photos: list[Path], plan: Plan, *, url: str, library: Reference) -> dict[str, Any]:
    """Measure each photo; return the figures by the photo's name and print a table."""
    table = Table("photo", "figure", "median", "min", "max")
    results: dict[str, Any] = {}
    for photo in photos:
        insightface = Insightface(library, photo)
        measured, differences = measure(Gateway(url, photo), insightface, plan)
        figures = summarise(measured)
        results[photo.name] = {**figures, "answers": differences}
        for name, spread in figures.items():
            table.add_row(photo.name, name, *(f"{value:.4g}" for value in spread.values()))
        for name, value in differences.items():
            table.add_row(photo.name, name, f"{value:.5g}")
    Console().print(table)
    return results


def report(results: dict[str, Any], plan: Plan, out: Path) -> None:
    """Write the figures, the machine and the settings."""
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    settings = {**asdict(plan), "callers": CALLERS, "warm-up rounds": 1}
    load = [round(value, 1) for value in os.getloadavg()]
    content = {
        "machine": machine | {"load_average_at_the_end": load},
        "settings": settings,
        "results": results,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=2) + "\n")


def main(
    photos: Annotated[list[Path], typer.Argument(exists=True)],
    insightface_python: Annotated[Path, typer.Option(exists=True)],
    detector: Annotated[Path, typer.Option(exists=True)],
    embedder: Annotated[Path, typer.Option(exists=True)],
    url: str = "http://127.0.0.1:8080",
    rounds: int = Plan.rounds,
    calls: int = Plan.calls,
    seconds: float = Plan.seconds,
    out: Path = Path("benchmarks/results/compare.json"),
) -> None:
    """Measure each photo, write the JSON and print a table."""
    library = Reference(insightface_python, detector, embedder)
    plan = Plan(rounds, calls, seconds)
    report(compare(photos, plan, url=url, library=library), plan, out)


if __name__ == "__main__":
    typer.run(main)

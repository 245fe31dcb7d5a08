"""Measure the default vector store as it grows: `make bench-vectors`, or by hand.

    python -m benchmarks.vectors --sizes 10000,100000 --output benchmarks/results/vectors.json

For each size the script

- inserts random unit vectors of 512 numbers with planted neighbours (ten for each probe, at cosines
  of 0.5 to 0.95) through the gateway's own store, as fast as possible;
- times searches during the inserts, during indexing and afterwards, one at a time, and compares the
  results with brute force;
- searches with probes that have a single neighbour (cosine 0.6), which is harder for a graph;
- enrols faces one at a time, then closes and opens the store again.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.collections.factory import tuning_of
from gateway.settings import Settings
from gateway.vectors.base import FacePoint, Vector, VectorCollection, VectorTuning
from gateway.vectors.edge.store import EdgeVectorStore

DIMENSION = 512
PROBES = 200
NEIGHBOURS = 10
LONE_COSINE = 0.6
BATCH = 250
SEARCHES = 500
ENROLMENTS = 200
WARM_UP = 50
COLLECTION = VectorCollection("default", "bench", "00000000000000be")
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of n operations, one at a time, in milliseconds."""

    n: int
    p50: float
    p95: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of one size."""

    points: int
    inserted_per_second: float
    first_tenth_per_second: float
    last_tenth_per_second: float
    indexing_seconds: float
    shards: int
    search_while_inserting: Latency | None
    search_while_indexing: Latency | None
    search: Latency
    search_by_subject: Latency
    enrolment: Latency
    recall_at_10: float
    lone_faces_found: float
    engine_megabytes: float
    disk_megabytes: float
    restart_seconds: float


def planted(points: int, seed: int) -> tuple[Vector, Vector]:
    """Return unit vectors [points,512] with ten neighbours of each probe [200,512]."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((points, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    probes = rng.standard_normal((PROBES, DIMENSION), dtype=np.float32)
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    places = rng.choice(points, PROBES * NEIGHBOURS, replace=False)
    cosines = rng.uniform(0.5, 0.95, len(places)).astype(np.float32)
    near = np.repeat(probes, NEIGHBOURS, axis=0)
    away = vectors[places] - near * np.sum(vectors[places] * near, axis=1, keepdims=True)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    vectors[places] = cosines[:, None] * near + np.sqrt(1 - cosines**2)[:, None] * away
    return vectors, probes


class Steps:
    """A progress bar of the current step."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("vectors")

    def begin(self, what: str, *, total: float | None = None) -> None:
        """Start a step; without a total the bar pulses until the next one."""
        self._bar.reset(self._task, description=what, total=total)

    def advance(self, by: int) -> None:
        """Advance the step."""
        self._bar.advance(self._task, by)


async def insert(
    store: EdgeVectorStore, vectors: Vector, steps: Steps
) -> tuple[list[float], list[str]]:
    """Insert all vectors; return the seconds of each batch and the ids."""
    ids = [str(uuid.UUID(int=index + 1)) for index in range(len(vectors))]
    seconds = []
    for start in range(0, len(vectors), BATCH):
        batch = [
            FacePoint(ids[i], vectors[i], f"s{i // 5}", "default", 1e9 + i)
            for i in range(start, min(start + BATCH, len(vectors)))
        ]
        began = time.perf_counter()
        await store.upsert(COLLECTION, batch)
        await store.flush(COLLECTION)
        seconds.append(time.perf_counter() - began)
        steps.advance(len(batch))
    return seconds, ids


async def timed_search(store: EdgeVectorStore, probe: Vector, *, by_subject: bool) -> float:
    """Return the milliseconds of one search."""
    began = time.perf_counter()
    await store.search(COLLECTION, probe, limit=10, min_similarity=-1, by_subject=by_subject)
    return (time.perf_counter() - began) * 1000


async def time_searches(store: EdgeVectorStore, probes: Vector, *, by_subject: bool) -> Latency:
    """Time searches after a warm-up."""
    for index in range(WARM_UP):
        await timed_search(store, probes[index % PROBES], by_subject=by_subject)
    times = [
        await timed_search(store, probes[index % PROBES], by_subject=by_subject)
        for index in range(SEARCHES)
    ]
    return summary(times)


async def time_enrolments(store: EdgeVectorStore, *, after: int) -> Latency:
    """Time single durable enrolments beside `after` other faces."""
    rng = np.random.default_rng(2)
    times = []
    for index in range(WARM_UP + ENROLMENTS):
        vector = rng.standard_normal(DIMENSION, dtype=np.float32)
        face = str(uuid.UUID(int=after + index + 1))
        vector /= np.linalg.norm(vector)
        point = FacePoint(face, vector, f"new{index}", "default", 2e9 + index)
        began = time.perf_counter()
        await store.upsert(COLLECTION, [point])
        await store.flush(COLLECTION)
        times.append((time.perf_counter() - began) * 1000)
    return summary(times[WARM_UP:])


async def search_until_inserted(
    store: EdgeVectorStore, probes: Vector, inserting: "asyncio.Task[tuple[list[float], list[str]]]"
) -> list[float]:
    """Search until everything is inserted; return the times in milliseconds."""
    times: list[float] = []
    while not inserting.done():
        times.append(await timed_search(store, probes[len(times) % PROBES], by_subject=False))
        await asyncio.sleep(0.01)
    return times


async def search_until_indexed(store: EdgeVectorStore, probes: Vector) -> tuple[float, list[float]]:
    """Search until everything is indexed; return the seconds and the times in milliseconds."""
    began = time.perf_counter()
    times: list[float] = []
    idle = 0
    # an idle engine looks for work: indexing is done when it found none three times
    while idle < 3:
        if await store.building():
            idle = 0
            times.append(await timed_search(store, probes[len(times) % PROBES], by_subject=False))
            await asyncio.sleep(0.01)
        else:
            idle += 1
            await asyncio.sleep(0.5)
    return time.perf_counter() - began, times


async def recall(store: EdgeVectorStore, vectors: Vector, probes: Vector, ids: list[str]) -> float:
    """Return the share of the true ten nearest that a search finds."""
    best = np.empty((PROBES, NEIGHBOURS), dtype=np.int64)
    for row, cosines in enumerate(probes @ vectors.T):
        best[row] = np.argpartition(-cosines, NEIGHBOURS)[:NEIGHBOURS]
    found = 0
    for row, probe in enumerate(probes):
        matches = await store.search(
            COLLECTION, probe, limit=10, min_similarity=-1, by_subject=False
        )
        found += len({ids[index] for index in best[row]} & {match.face_id for match in matches})
    return found / best.size


async def find_lone(store: EdgeVectorStore, vectors: Vector, ids: list[str]) -> float:
    """Return the share of probes with their only neighbour (cosine 0.6) as the first match."""
    rng = np.random.default_rng(1)
    places = rng.choice(len(vectors), PROBES, replace=False)
    noise = rng.standard_normal((PROBES, DIMENSION), dtype=np.float32)
    noise -= vectors[places] * np.sum(noise * vectors[places], axis=1, keepdims=True)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    probes = LONE_COSINE * vectors[places] + np.sqrt(1 - LONE_COSINE**2) * noise
    found = 0
    for place, probe in zip(places, probes.astype(np.float32), strict=True):
        matches = await store.search(
            COLLECTION, probe, limit=1, min_similarity=-1, by_subject=False
        )
        found += matches[0].face_id == ids[place]
    return found / PROBES


async def measure(points: int, tuning: VectorTuning, folder: Path, steps: Steps) -> Measured:
    """Measure one size in an empty folder."""
    steps.begin(f"{points:,} faces: generate")
    vectors, probes = planted(points, seed=points)
    store = await EdgeVectorStore.open(folder, tuning, min_free_bytes=1 << 28)
    try:
        await store.create(COLLECTION, dimension=DIMENSION)
        steps.begin(f"{points:,} faces: insert", total=points)
        inserting = asyncio.create_task(insert(store, vectors, steps))
        between = await search_until_inserted(store, probes, inserting)
        seconds, ids = await inserting
        steps.begin(f"{points:,} faces: index")
        indexing, busy = await search_until_indexed(store, probes)
        steps.begin(f"{points:,} faces: search")
        quiet = await time_searches(store, probes, by_subject=False)
        grouped = await time_searches(store, probes, by_subject=True)
        found = await recall(store, vectors, probes, ids)
        lone = await find_lone(store, vectors, ids)
        enrolled = await time_enrolments(store, after=points)
        info = await store.info(COLLECTION)
        pid = store.engine_pid
        memory = psutil.Process(pid).memory_info().rss / 2**20 if pid else float("nan")
    finally:
        await store.close()
    began = time.perf_counter()
    again = await EdgeVectorStore.open(folder, tuning, min_free_bytes=1 << 28)
    try:
        await timed_search(again, probes[0], by_subject=False)
        restart = time.perf_counter() - began
    finally:
        await again.close()
    tenth = max(len(seconds) // 10, 1)
    return Measured(
        points=points,
        inserted_per_second=round(points / sum(seconds), 1),
        first_tenth_per_second=round(BATCH * tenth / sum(seconds[:tenth]), 1),
        last_tenth_per_second=round(BATCH * tenth / sum(seconds[-tenth:]), 1),
        indexing_seconds=round(indexing, 1),
        shards=info.shards,
        search_while_inserting=summary(between) if between else None,
        search_while_indexing=summary(busy) if busy else None,
        search=quiet,
        search_by_subject=grouped,
        enrolment=enrolled,
        recall_at_10=round(found, 4),
        lone_faces_found=round(lone, 4),
        engine_megabytes=round(memory, 1),
        disk_megabytes=round(folder_bytes(folder) / 2**20, 1),
        restart_seconds=round(restart, 2),
    )


def folder_bytes(folder: Path) -> int:
    """Return the bytes on the disk, without the holes of sparse files."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def summary(times: list[float]) -> Latency:
    """Return percentiles of `times`, in milliseconds."""
    values: npt.NDArray[np.float64] = np.percentile(times, _PERCENTILES)
    p50, p95, p99 = (round(float(value), 2) for value in values)
    return Latency(len(times), p50, p95, p99, round(max(times), 2))


def show(console: Console, results: list[Measured]) -> None:
    """Print the table."""
    table = Table(title="Qdrant Edge, 512 numbers, one search at a time")
    for heading in (
        "faces",
        "inserts/s",
        "p50 ms",
        "p95",
        "p99",
        "recall@10",
        "lone",
        "enrol ms",
        "MiB",
        "restart s",
    ):
        table.add_column(heading, justify="right")
    for each in results:
        table.add_row(
            f"{each.points:,}",
            f"{each.inserted_per_second:.0f}",
            f"{each.search.p50:.2f}",
            f"{each.search.p95:.2f}",
            f"{each.search.p99:.2f}",
            f"{each.recall_at_10:.4f}",
            f"{each.lone_faces_found:.3f}",
            f"{each.enrolment.p50:.2f}",
            f"{each.engine_megabytes:.0f}",
            f"{each.restart_seconds:.2f}",
        )
    console.print(table)


def main() -> None:
    """Measure, write the JSON and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/vectors.json"))
    parser.add_argument(
        "--folder", type=Path, help="Where the stores are created; default: a temporary folder."
    )
    arguments = parser.parse_args()
    console = Console()
    tuning = tuning_of(Settings())
    results: list[Measured] = []
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        console=console,
    )
    steps = Steps(bar)
    for points in (int(size) for size in arguments.sizes.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="aurum-bench-", dir=arguments.folder))
        try:
            with bar:
                results.append(asyncio.run(measure(points, tuning, folder, steps)))
        finally:
            shutil.rmtree(folder)
        document = {
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "memory_gigabytes": round(psutil.virtual_memory().total / 2**30, 1),
                "load_average_at_the_end": [round(load, 2) for load in os.getloadavg()],
            },
            "versions": {name: version(name) for name in ("qdrant-edge-py", "numpy")}
            | {"python": sys.version.split()[0]},
            "settings": asdict(tuning) | {"batch": BATCH, "warm_up": WARM_UP},
            "results": [asdict(each) for each in results],
        }
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")
        show(console, results)


if __name__ == "__main__":
    main()

r"""Memory of the whole stack by process: idle, under load, after photos, swaps, canaries, churn.

    python -m benchmarks.memory [--photos 10000 --imports 20 --canaries 5 --faces 100000]
    python -m benchmarks.memory --start --against ../old [--runs 30]
    python -m benchmarks.memory --rates --against ../old [--rounds 15]

Each figure is the sum of PSS (each page counted once) over all processes that `aurum up` started,
the vector engine included. `--against` measures the same of another checkout, in turns: seconds of
`up` and `down`, or photos per second. Writes JSON and Markdown to `benchmarks/results/`.
"""

import itertools
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import requests
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.support import resident, side_by_side
from benchmarks.support.checkouts import CHECKOUT, StackOf, stack_of
from benchmarks.support.load import closed, run
from benchmarks.support.photos import one_face, six_faces, with_comment
from benchmarks.support.resident import Snapshot

RESULTS: Final = CHECKOUT / "benchmarks" / "results"
MODELS: Final = CHECKOUT.parent / "shared" / "models"
CALLERS: Final = 8
_AT_ONCE: Final = 500
_ALIVE: Final = 10_000
"""Faces that are remembered while others come and go."""
_PATIENCE_SECONDS: Final = 300.0


@dataclass(slots=True)
class Report:
    """Snapshots by phase; a peak is the largest total seen while a phase ran."""

    settled: dict[str, Snapshot] = field(default_factory=dict)
    peaks: dict[str, Snapshot] = field(default_factory=dict)
    save: Callable[["Report"], None] = lambda _: None
    """Called after each phase, as all of them take an hour."""

    @contextmanager
    def phase(self, name: str, stack: StackOf) -> Iterator[None]:
        """Watch while the block runs, and look again when it has settled."""
        with resident.watching(stack.leaders()) as watcher:
            yield
        self.peaks[name] = watcher.peak
        self.settled[name] = resident.settled(stack.leaders())
        self.save(self)

    def figures(self) -> dict[str, Any]:
        """All snapshots, for JSON."""
        phases = {"settled": self.settled, "peaks": self.peaks}
        return {
            kind: {name: asdict(seen) for name, seen in each.items()}
            for kind, each in phases.items()
        }


def send_photos(stack: StackOf, count: int, step: Callable[[int], None]) -> None:
    """Photos of one and of six faces from eight callers, none of them known to the cache."""
    done = 0
    while done < count:
        size = min(_AT_ONCE, count - done)
        # six faces once in five: a mix that leaves no part idle
        photo = six_faces() if done // _AT_ONCE % 5 == 4 else one_face()
        url = f"{stack.url}/api/ml/score"
        answered = run(closed(url, with_comment(photo, done), callers=CALLERS, count=size))
        if set(answered.counts) != {200}:
            raise RuntimeError(f"not all photos were answered: {answered.counts}")
        done += size
        step(size)


def import_and_roll_back(stack: StackOf, models: Path) -> None:
    """Put another embedding into service, ask it, and go back."""
    network = models / "mobilefacenet_arcface_128.onnx"
    stack.aurum("models", "import", "--embedding", network, "--wait", 60)
    send_photos(stack, 20, lambda _: None)
    stack.aurum("models", "rollback", "embedding", "--wait", 60)
    send_photos(stack, 20, lambda _: None)


def canary(stack: StackOf) -> None:
    """Try the kept embedding with half of the requests, and end the trial."""
    stack.aurum("models", "activate", "embedding", "--canary", "50%", "--wait", 60)
    send_photos(stack, 100, lambda _: None)
    stack.aurum("models", "abort")


class Churn:
    """Enrols embeddings and forgets the oldest, so that as many are remembered as at first."""

    def __init__(self, stack: StackOf) -> None:
        self._client = requests.Session()
        self._base = f"{stack.url}/api/collections"
        self._post(self._base, json={"name": "churn"})
        answer = self._post(f"{stack.url}/api/ml/embed", files={"image": one_face()}).json()
        self._space = answer["models"]["space"]
        self._dimension = len(answer["faces"][0]["embedding"])
        self._random = np.random.default_rng(0)
        self._alive: list[str] = []
        self._subjects = itertools.count()

    def enrol(self, faces: int, step: Callable[[int], None], *, forget: bool) -> None:
        """Enrol so many; with `forget`, as many of the oldest go."""
        for _ in range(faces // _AT_ONCE):
            subject = f"subject-{next(self._subjects)}"
            rows = self._random.normal(size=(_AT_ONCE, self._dimension)).round(4).tolist()
            given = [{"embedding": row, "subject": subject} for row in rows]
            body = {"embeddings": given, "space": self._space}
            self._post(f"{self._base}/churn/faces", json=body)
            self._alive.append(subject)
            if forget:
                oldest = f"{self._base}/churn/subjects/{self._alive.pop(0)}"
                self._client.delete(oldest, timeout=_PATIENCE_SECONDS).raise_for_status()
            step(_AT_ONCE)

    def _post(self, url: str, **body: Any) -> requests.Response:
        answer = self._client.post(url, timeout=_PATIENCE_SECONDS, **body)
        answer.raise_for_status()
        return answer


def measure(
    stack: StackOf,
    models: Path,
    report: Report,
    *,
    photos: int,
    imports: int,
    canaries: int,
    faces: int,
) -> None:
    """Run all phases on one stack that was started for it."""
    # the second start of a home, as on any day but the first
    stack.aurum("up")
    stack.aurum("down")
    stack.aurum("up")
    report.settled["idle"] = resident.settled(stack.leaders())
    with Progress() as progress:

        def bar(name: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(name, total=total)
            return lambda count: progress.advance(task, count)

        with report.phase("eight callers", stack):
            send_photos(stack, 1000, bar("eight callers", 1000))
        with report.phase(f"{photos} photos", stack):
            send_photos(stack, photos, bar(f"{photos} photos", photos))
        if imports:
            with report.phase(f"{imports} imports, rolled back", stack):
                step = bar(f"{imports} imports", imports)
                for _ in range(imports):
                    import_and_roll_back(stack, models)
                    step(1)
        if canaries:
            with report.phase(f"{canaries} canaries", stack):
                step = bar(f"{canaries} canaries", canaries)
                for _ in range(canaries):
                    canary(stack)
                    step(1)
        if faces:
            churn = Churn(stack)
            with report.phase(f"{_ALIVE} faces remembered", stack):
                churn.enrol(_ALIVE, bar(f"{_ALIVE} faces", _ALIVE), forget=False)
            with report.phase(f"{faces} faces came and went", stack):
                churn.enrol(faces, bar(f"{faces} faces", faces), forget=True)
    stack.aurum("down")


def markdown(report: Report) -> str:
    """Totals by phase, then the processes of the first and the largest."""
    lines = ["| phase | PSS settled | PSS peak | RSS settled |", "|---|---|---|---|"]
    for name, seen in report.settled.items():
        peak = report.peaks.get(name)
        largest = f"{peak.pss:.0f}" if peak else ""
        lines.append(f"| {name} | {seen.pss:.0f} | {largest} | {seen.rss:.0f} |")
    shown = {"idle": report.settled["idle"]}
    shown |= {f"{name}, at its peak": seen for name, seen in report.peaks.items()}
    for name, seen in shown.items():
        lines += ["", f"{name[0].upper()}{name[1:]} (MiB):", ""]
        lines += ["| process | RSS | PSS | private |", "|---|---|---|---|"]
        for each in seen.processes:
            lines.append(f"| {each.name} | {each.rss:.1f} | {each.pss:.1f} | {each.private:.1f} |")
        lines.append(f"| all | {seen.rss:.1f} | {seen.pss:.1f} | |")
    return "\n".join(lines) + "\n"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average_at_the_end": [round(value, 1) for value in os.getloadavg()],
    }


def main(
    photos: Annotated[int, typer.Option(help="Photos that are sent.")] = 10_000,
    imports: Annotated[int, typer.Option(help="Imports that are rolled back.")] = 20,
    canaries: Annotated[int, typer.Option(help="Trials that are ended.")] = 5,
    faces: Annotated[int, typer.Option(help="Faces that are enrolled and forgotten.")] = 100_000,
    models: Annotated[Path, typer.Option(help="Folder of the networks to import.")] = MODELS,
    triton: Annotated[Path | None, typer.Option(help="Folder of unpacked servers.")] = None,
    start: Annotated[
        bool, typer.Option("--start", help="Measure `up` and `down` instead.")
    ] = False,
    rates: Annotated[
        bool, typer.Option("--rates", help="Measure photos a second instead.")
    ] = False,
    against: Annotated[Path | None, typer.Option(help="Another checkout, in turns.")] = None,
    runs: Annotated[int, typer.Option(help="Starts of each.")] = 30,
    rounds: Annotated[int, typer.Option(help="Rounds of each load.")] = 15,
    checkout: Annotated[Path, typer.Option(help="Whose stack is measured.")] = CHECKOUT,
    out: Annotated[Path | None, typer.Option(help="Where the JSON goes.")] = None,
) -> None:
    """Measure and write `memory.json`, `start.json` or `rates.json`, and a page beside it."""
    name = "start" if start else "rates" if rates else "memory"
    out = out or RESULTS / f"{name}.json"
    checkouts = [checkout.resolve(), *([against.resolve()] if against else [])]
    found: dict[str, Any]
    if start:
        found, page = side_by_side.starts(checkouts, runs, triton)
    elif rates:
        found, page = side_by_side.rates(checkouts, rounds, triton)
    else:
        # memory is measured, also where other work keeps the machine from answering in time
        settings = {
            "AURUM_CACHE": "off",
            "AURUM_MAX_ENROL_IMAGES": str(_AT_ONCE),
            "AURUM_REQUEST_TIMEOUT_SECONDS": "120",
        }
        report = Report(save=lambda so_far: write(out, so_far.figures(), markdown(so_far)))
        sizes = {"photos": photos, "imports": imports, "canaries": canaries, "faces": faces}
        with stack_of(checkouts[0], triton=triton, **settings) as stack:
            measure(stack, models, report, **sizes)
        found, page = report.figures(), markdown(report)
    write(out, found, page)
    Console().print(page, markup=False)


def write(out: Path, found: Mapping[str, Any], page: str) -> None:
    """Write the JSON, and the page beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**found, "machine": machine()}, indent=2) + "\n")
    out.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    typer.run(main)

"""How long callers wait while a job runs, and how fast the job is meanwhile.

    python -m benchmarks.beside_a_job [--seconds 20] [--rounds 3] [--images 6000]

One stack, one job. In each round and for each kind of callers the job is paused and resumed, so
that both are measured in turns: the callers alone, then beside the job; and the job alone. Every
image has bytes of its own and nothing is cached. Prints a table and writes JSON; run it on a
machine that does nothing else.
"""

import json
import statistics
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import track

from benchmarks.support.checkouts import CHECKOUT, StackOf, stack_of
from benchmarks.support.load import Answered, closed, open_loop, run, timed
from benchmarks.support.photos import one_face, with_comment

RESULTS: Final = CHECKOUT / "benchmarks" / "results" / "beside_a_job.json"
_SETTLE_SECONDS: Final = 5.0
"""After a resume: the worker finds callers, or finds none and takes more images at a time."""
_WARM_UP: Final = 60
_EVERY_SECOND: Final = "one a second"
KINDS: Final = {"1 caller": 1, "8 callers": 8, _EVERY_SECOND: 0}
"""Callers that send again at once, by number; 0: requests at a rate of one a second."""


@dataclass(slots=True)
class Kind:
    """What was measured of one kind of callers, one entry a round; times in milliseconds."""

    idle_p50: list[float] = field(default_factory=list)
    idle_p95: list[float] = field(default_factory=list)
    beside_p50: list[float] = field(default_factory=list)
    beside_p95: list[float] = field(default_factory=list)
    job_images_per_second: list[float] = field(default_factory=list)


class Job:
    """A job of a running stack."""

    def __init__(self, url: str, archive: Path) -> None:
        """Upload the archive."""
        size = {"Content-Type": "application/zip", "Content-Length": str(archive.stat().st_size)}
        with archive.open("rb") as body:
            made = _call("POST", f"{url}/api/ml/score/batch", body, size)
        self._url = f"{url}/api/ml/jobs/{made['job_id']}"

    def done(self) -> int:
        """Count the images that have ended; raises RuntimeError if none is left."""
        state = _call("GET", self._url)
        if state["state"] == "done":
            raise RuntimeError("the job has ended: give it more --images")
        return int(state["done"]) + int(state["failed"])

    def resume(self) -> None:
        """Let it go on, and wait until it is in full swing."""
        _call("POST", f"{self._url}/resume")
        time.sleep(_SETTLE_SECONDS)

    def pause(self) -> None:
        """Stop it, and wait until the images in hand have ended."""
        _call("POST", f"{self._url}/pause")
        before = -1
        while (now := self.done()) != before:
            before = now
            time.sleep(2.0)

    def cancel(self) -> None:
        """End it."""
        _call("DELETE", self._url)


def main(
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 20.0,
    rounds: int = 3,
    images: Annotated[int, typer.Option(help="Of the job; more than it does meanwhile.")] = 6000,
    workers: int = 1,
    triton: Annotated[Path | None, typer.Option(exists=True, help="Unpacked servers.")] = None,
    out: Path = RESULTS,
) -> None:
    """Measure, print a table, write JSON."""
    kinds, alone = {name: Kind() for name in KINDS}, list[float]()
    # nobody is refused, however slow the machine is
    settings = {
        "AURUM_CACHE": "off",
        "AURUM_WORKERS": str(workers),
        "AURUM_REQUEST_TIMEOUT_SECONDS": "60",
        "AURUM_MAX_WAIT_SECONDS": "60",
    }
    with stack_of(CHECKOUT, triton=triton, **settings) as stack, _archive(images) as archive:
        stack.aurum("up")
        run(closed(f"{stack.url}/api/ml/score", one_face(), callers=8, count=_WARM_UP))
        job = Job(stack.url, archive)
        job.pause()
        for _ in track(range(rounds), "rounds"):
            job.resume()
            alone.append(_rate_of(job, time.sleep, seconds))
            job.pause()
            for name, kind in kinds.items():
                _measure(stack, job, name, kind, seconds)
        job.cancel()
    out.parent.mkdir(parents=True, exist_ok=True)
    found = {"alone_images_per_second": alone} | {n: asdict(kind) for n, kind in kinds.items()}
    out.write_text(json.dumps(found, indent=1) + "\n")
    typer.echo(table(kinds, alone))


def table(kinds: dict[str, Kind], alone: list[float]) -> str:
    """Write medians of the rounds as a table."""
    rows = [
        "| callers | alone: p50, p95 | beside a job: p50, p95 | ratio of p95 | job, images/s |",
        "|---|---|---|---|---|",
        f"| none | | | | {statistics.median(alone):.1f} |",
    ]
    for name, kind in kinds.items():
        ratios = [b / a for a, b in zip(kind.idle_p95, kind.beside_p95, strict=True)]
        p50, p95, beside_p50, beside_p95 = (
            statistics.median(each)
            for each in (kind.idle_p50, kind.idle_p95, kind.beside_p50, kind.beside_p95)
        )
        rate = statistics.median(kind.job_images_per_second)
        rows.append(
            f"| {name} | {p50:.0f}, {p95:.0f} ms | {beside_p50:.0f}, {beside_p95:.0f} ms "
            f"| {statistics.median(ratios):.2f} | {rate:.1f} |"
        )
    return "\n".join(rows)


def _measure(stack: StackOf, job: Job, name: str, kind: Kind, seconds: float) -> None:
    """Measure callers alone, then beside the job, which is paused before and afterwards."""
    alone = _callers(stack, name, seconds)
    kind.idle_p50.append(alone.percentile(0.5))
    kind.idle_p95.append(alone.percentile(0.95))
    job.resume()
    # the worker has seen these callers when the measurement begins
    _callers(stack, name, _SETTLE_SECONDS)
    answers: list[Answered] = []
    rate = _rate_of(job, lambda span: answers.append(_callers(stack, name, span)), seconds)
    job.pause()
    kind.job_images_per_second.append(rate)
    kind.beside_p50.append(answers[0].percentile(0.5))
    kind.beside_p95.append(answers[0].percentile(0.95))


def _callers(stack: StackOf, name: str, seconds: float) -> Answered:
    url, callers = f"{stack.url}/api/ml/score", KINDS[name]
    work: Coroutine[Any, Any, Answered]
    if callers:
        work = timed(url, one_face(), callers=callers, seconds=seconds)
    else:
        work = open_loop(url, one_face(), rate=1.0, seconds=seconds)
    answered = run(work)
    if set(answered.counts) != {200}:
        raise RuntimeError(f"not all photos were answered: {answered.counts}")
    return answered


def _rate_of(job: Job, meanwhile: Callable[[float], object], seconds: float) -> float:
    """Return the images of the job a second while `meanwhile(seconds)` runs."""
    before, started = job.done(), time.perf_counter()
    meanwhile(seconds)
    return (job.done() - before) / (time.perf_counter() - started)


@contextmanager
def _archive(images: int) -> Iterator[Path]:
    """Make a ZIP of photos with one face, each with bytes of its own."""
    with tempfile.TemporaryDirectory(prefix="aurum-bench-") as folder:
        path = Path(folder) / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number in track(range(images), "photos"):
                archive.writestr(f"{number:05d}.jpg", with_comment(one_face(), number))
        yield path


def _call(
    method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    # the URL of the service that this script started
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
        return dict(json.loads(answer.read()))


if __name__ == "__main__":
    typer.run(main)

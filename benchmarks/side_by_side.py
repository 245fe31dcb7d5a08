"""Checkouts measured in turns: seconds of start and stop, photos a second."""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from rich.progress import track

from benchmarks.checkouts import stack_of
from benchmarks.load import closed, run, saturated
from benchmarks.photos import one_face, six_faces

_ROUND_SECONDS: Final = 4.0
_PAUSE_SECONDS: Final = 0.5


def starts(checkouts: Sequence[Path], runs: int, triton: Path | None) -> tuple[dict[str, Any], str]:
    """Seconds of `up` and `down` with nothing in flight; the first start of each is left out."""
    seconds: dict[str, dict[str, list[float]]] = {
        str(checkout): {"up": [], "down": []} for checkout in checkouts
    }
    with ExitStack() as held:
        stacks = [held.enter_context(stack_of(each, triton=triton)) for each in checkouts]
        for stack in stacks:
            stack.aurum("up")
            stack.aurum("down")
        for number in track(range(runs), "starts"):
            for stack in stacks if number % 2 else reversed(stacks):
                measured = seconds[str(stack.checkout)]
                measured["up"].append(stack.aurum("up"))
                time.sleep(_PAUSE_SECONDS)
                measured["down"].append(stack.aurum("down"))
    lines = ["| checkout | up, median | up, best | down, median | down, best |"]
    lines.append("|---|---|---|---|---|")
    for name, of in seconds.items():
        figures = [
            figure for each in ("up", "down") for figure in (_median(of[each]), min(of[each]))
        ]
        lines.append(f"| {name} | " + " | ".join(f"{each:.2f} s" for each in figures) + " |")
    return {"seconds": seconds}, "\n".join(lines) + "\n"


def rates(
    checkouts: Sequence[Path], rounds: int, triton: Path | None
) -> tuple[dict[str, Any], str]:
    """Photos per second of each checkout, and the first one's share of each other's."""
    loads = {
        f"{faces}, {callers} callers": (photo, callers)
        for faces, photo in (("one face", one_face()), ("six faces", six_faces()))
        for callers in (1, 4, 8)
    }
    found: dict[str, dict[str, list[float]]] = {
        load: {str(checkout): [] for checkout in checkouts} for load in loads
    }
    with ExitStack() as held:
        stacks = [
            held.enter_context(stack_of(each, triton=triton, AURUM_CACHE="off"))
            for each in checkouts
        ]
        for stack in stacks:
            stack.aurum("up")
            for photo in (one_face(), six_faces()):
                run(closed(f"{stack.url}/api/ml/score", photo, callers=8, count=100))
        for number in track(range(rounds), "rounds"):
            for load, (photo, callers) in loads.items():
                for stack in stacks if number % 2 else reversed(stacks):
                    url = f"{stack.url}/api/ml/score"
                    rate = run(saturated(url, photo, callers=callers, seconds=_ROUND_SECONDS))
                    found[load][str(stack.checkout)].append(rate)
    first, *others = map(str, checkouts)
    lines = ["| load | " + " | ".join(map(str, checkouts)) + " | share of the other |"]
    lines.append("|---" * (len(checkouts) + 2) + "|")
    for load, of in found.items():
        medians = " | ".join(f"{_median(of[str(each)]):.1f} / s" for each in checkouts)
        shares = [
            [mine / theirs for mine, theirs in zip(of[first], of[other], strict=True) if theirs]
            for other in others
        ]
        lines.append(
            f"| {load} | {medians} | " + ", ".join(f"{_median(s):.3f}" for s in shares) + " |"
        )
    return {"photos_per_second": found}, "\n".join(lines) + "\n"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")

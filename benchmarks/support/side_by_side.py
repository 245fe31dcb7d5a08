"""Checkouts measured in turns: seconds of start and stop, photos a second."""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.progress import track

from benchmarks.support.checkouts import StackOf, stack_of
from benchmarks.support.load import closed, run
from benchmarks.support.photos import one_face, six_faces
from benchmarks.support.resident import processor_seconds

_IN_A_ROUND: Final = 80
"""Photos: some seconds."""
_PAUSE_SECONDS: Final = 0.5
_NAMES: Final = ("this", "other", "third")
"""Of the checkouts in what is written: their folders are those of one machine."""


def starts(checkouts: Sequence[Path], runs: int, triton: Path | None) -> tuple[dict[str, Any], str]:
    """Seconds of `up` and `down` with nothing in flight; the first start of each is left out."""
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"up": [], "down": []} for name, _ in zip(_NAMES, checkouts, strict=False)
    }
    with ExitStack() as held:
        stacks = [held.enter_context(stack_of(each, triton=triton)) for each in checkouts]
        for stack in stacks:
            stack.aurum("up")
            stack.aurum("down")
        named = list(zip(seconds, stacks, strict=True))
        for number in track(range(runs), "starts"):
            for name, stack in named if number % 2 else reversed(named):
                measured = seconds[name]
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


@dataclass(frozen=True, slots=True)
class Rate:
    """One round of a load: photos a second, and processor milliseconds a photo of all parts."""

    photos_per_second: float
    processor_ms: float


def rates(
    checkouts: Sequence[Path], rounds: int, triton: Path | None
) -> tuple[dict[str, Any], str]:
    """Photos a second and processor time a photo of each checkout.

    Where other work runs on the machine, the processor time says more: both are shares of it.
    """
    loads = {
        f"{faces}, {callers} callers": (photo, callers)
        for faces, photo in (("one face", one_face()), ("six faces", six_faces()))
        for callers in (1, 4, 8)
    }
    names = _NAMES[: len(checkouts)]
    found: dict[str, dict[str, list[Rate]]] = {load: {name: [] for name in names} for load in loads}
    with ExitStack() as held:
        stacks = [
            held.enter_context(stack_of(each, triton=triton, AURUM_CACHE="off"))
            for each in checkouts
        ]
        for stack in stacks:
            stack.aurum("up")
            for photo in (one_face(), six_faces()):
                run(closed(f"{stack.url}/api/ml/score", photo, callers=8, count=100))
        named = list(zip(names, stacks, strict=True))
        for number in track(range(rounds), "rounds"):
            for load, (photo, callers) in loads.items():
                for name, stack in named if number % 2 else reversed(named):
                    found[load][name].append(_round(stack, photo, callers))
    rows = [_row(load, of, names) for load, of in found.items()]
    columns = " | ".join(f"{each}: photos a second, processor time" for each in names)
    head = f"| load | {columns} | share of the other's rate | of its processor time |"
    rule = "|---" * (len(checkouts) + 3) + "|"
    as_json = {
        load: {name: [asdict(rate) for rate in each] for name, each in of.items()}
        for load, of in found.items()
    }
    return {"rates": as_json}, "\n".join([head, rule, *rows]) + "\n"


def _round(stack: StackOf, photo: bytes, callers: int) -> Rate:
    leaders = stack.leaders()
    before = processor_seconds(leaders)
    url = f"{stack.url}/api/ml/score"
    answered = run(closed(url, photo, callers=callers, count=_IN_A_ROUND))
    if set(answered.counts) != {200}:
        raise RuntimeError(f"not all photos were answered: {answered.counts}")
    taken = processor_seconds(leaders) - before
    return Rate(answered.rate(), taken / _IN_A_ROUND * 1000)


def _row(load: str, of: dict[str, list[Rate]], checkouts: Sequence[str]) -> str:
    cells = []
    for each in checkouts:
        rate = _median([one.photos_per_second for one in of[each]])
        cells.append(f"{rate:.1f}, {_median([one.processor_ms for one in of[each]]):.1f} ms")
    mine, *others = (of[each] for each in checkouts)
    pairs = [pair for theirs in others for pair in zip(mine, theirs, strict=True)]
    faster = _median([one.photos_per_second / other.photos_per_second for one, other in pairs])
    dearer = _median([one.processor_ms / other.processor_ms for one, other in pairs])
    return f"| {load} | " + " | ".join(cells) + f" | {faster:.3f} | {dearer:.3f} |"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")

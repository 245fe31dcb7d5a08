"""What a caller may see while components fail, and what it saw."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.failures.jobs import Ended
from benchmarks.failures.load import BROKEN, HANGS, Seen

SLACK_SECONDS: Final = 1.0
"""How far beyond its deadline an answer may come: the machine may be busy."""
_UNAVAILABLE: Final = frozenset({503, 504, 507})
_RECORDED: Final = ({"postgresql"}, {"sqlite"})
_STORED: Final = ({"vectors"}, *_RECORDED)
_NEEDS: Final[Mapping[str, Sequence[set[str]]]] = {
    "score": ({"triton"},),
    "score, known photo": ({"triton", "redis"},),
    "detect": ({"triton"},),
    "embed": ({"triton"},),
    "enrol a photo": ({"triton"}, *_STORED),
    "enrol an embedding": _STORED,
    "search": _STORED,
    "create a job": ({"objects"}, *_RECORDED),
    "show jobs": _RECORDED,
    "readiness": ({"triton"},),
}
"""By operation: it may fail while all components of one of these sets are troubled."""


_OWN_TIME: Final = frozenset({"create a job"})
"""May take longer than a deadline: each call of it to a store has a limit of its own."""


def may_fail(operation: str, troubled: Iterable[str]) -> bool:
    """Whether an operation may answer that it is unavailable while these components fail."""
    those = set(troubled)
    if "gateway" in those:
        return True
    return any(needed <= those for needed in _NEEDS[operation])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the callers of one operation saw from the begin of a fault until all was well.

    statuses: by status and code. worst_seconds: the longest answer. engines: by name.
    """

    operation: str
    statuses: Mapping[str, int]
    within_deadline: float
    worst_seconds: float
    engines: Mapping[str, int]


@dataclass(slots=True)
class Case:
    """One fault, or several at once, and what followed.

    seconds: how long it lasted. well_after_seconds: from its end until nothing failed any more;
    None if that did not come. lost: acknowledged faces that were not found afterwards.
    """

    faults: tuple[str, ...]
    seconds: float
    well_after_seconds: float | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    lost: int = 0
    acknowledged: int = 0
    jobs: Ended = field(default_factory=Ended)
    wrong: list[str] = field(default_factory=list)
    """Broken promises, in words."""

    @property
    def name(self) -> str:
        """As tables show it."""
        return " + ".join(self.faults)


def summarise(seen: Iterable[Seen], *, deadline_seconds: float) -> list[Outcome]:
    """Count what was seen, by operation."""
    found = []
    ordered = sorted(seen, key=lambda each: each.operation)
    for operation, group in itertools.groupby(ordered, key=lambda each: each.operation):
        each = list(group)
        seconds = [one.seconds for one in each]
        limit = deadline_seconds + SLACK_SECONDS
        found.append(
            Outcome(
                operation,
                dict(Counter(_described(one) for one in each)),
                sum(one <= limit for one in seconds) / len(seconds),
                max(seconds),
                dict(Counter(one.engine for one in each if one.good and one.engine)),
            )
        )
    return found


def find_wrong(
    seen: Iterable[Seen], *, troubled: Iterable[str], deadline_seconds: float
) -> list[str]:
    """Return the promises that these answers break, each once, with an example."""
    those = frozenset(troubled)
    examples: dict[str, Seen] = {}
    for each in seen:
        for complaint in _complaints(each, those, deadline_seconds):
            examples.setdefault(f"{each.operation}: {complaint}", each)
    return [
        f"{complaint} (after {each.seconds:.1f} s{': ' if each.detail else ''}{each.detail[:120]})"
        for complaint, each in examples.items()
    ]


def wrong_jobs(jobs: Ended) -> list[str]:
    """Return the promises that jobs broke: each image ends exactly once, and none fails."""
    found = []
    if jobs.unfinished_jobs:
        found.append(f"{jobs.unfinished_jobs} jobs did not end")
    if jobs.lost or jobs.doubled:
        found.append(f"{jobs.lost} images of jobs lost, {jobs.doubled} doubled")
    if jobs.reasons:
        found.append(f"images of jobs failed: {dict(jobs.reasons)}")
    return found


def _complaints(each: Seen, troubled: frozenset[str], deadline_seconds: float) -> Iterable[str]:
    gateway = "gateway" in troubled
    if each.status in (HANGS, BROKEN):
        if not gateway:
            yield _described(each)
        return
    late = each.seconds > deadline_seconds + SLACK_SECONDS
    if late and not gateway and each.operation not in _OWN_TIME:
        yield "later than the deadline"
    if each.good:
        return
    if each.status not in _UNAVAILABLE or not (each.code or each.operation == "readiness"):
        yield f"{_described(each)} for a good request"
    elif not may_fail(each.operation, troubled):
        yield f"{_described(each)}, though it needs nothing that failed"
    if each.status == 503 and not each.retry_after:
        yield "503 without Retry-After"


def _described(each: Seen) -> str:
    names = {HANGS: "no answer", BROKEN: "connection lost"}
    return names.get(each.status) or f"{each.status} {each.code}".strip()

"""What a run showed: a line for each case, JSON, and the table of the documentation."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.failures.jobs import Ended
from benchmarks.failures.judge import Case, Outcome
from benchmarks.support.served import CHECKOUT

RESULTS: Final = CHECKOUT / "benchmarks" / "results" / "failures.json"
DOCUMENT: Final = CHECKOUT / "docs" / "reliability.md"
BEGIN: Final = "<!-- Written by `python -m benchmarks.failures`; do not edit. -->"
END: Final = "<!-- End of the written table. -->"


def say(case: Case) -> None:
    """Print what one case showed."""
    well = "never" if case.well_after_seconds is None else f"{case.well_after_seconds:.1f} s"
    print(f"\n== {case.name}: well again after {well}, {case.lost} of {case.acknowledged} lost")
    for outcome in case.outcomes:
        seen = ", ".join(f"{count} x {status}" for status, count in outcome.statuses.items())
        print(
            f"   {outcome.operation}: {seen}; worst {outcome.worst_seconds:.1f} s; "
            f"{dict(outcome.engines)}"
        )
    jobs = case.jobs
    print(
        f"   jobs: {jobs.accepted} images, {jobs.done} done, {dict(jobs.reasons)} failed, "
        f"{jobs.lost} lost, {jobs.doubled} doubled"
    )
    for wrong in case.wrong:
        print(f"   WRONG {wrong}", flush=True)


def keep(case: Case, *, results: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Write a result in the place of the last one of its name, and the table of all."""
    known = read(results) if results.exists() else []
    names = [each.name for each in known]
    if case.name in names:
        known[names.index(case.name)] = case
    else:
        known.append(case)
    write(known, results=results, document=document)


def read(results: Path) -> list[Case]:
    """Read what `write` wrote."""
    found = []
    for raw in json.loads(results.read_text()):
        jobs = raw["jobs"]
        ended = Ended(**{**jobs, "reasons": Counter(jobs["reasons"])})
        outcomes = [Outcome(**each) for each in raw["outcomes"]]
        faults = tuple(raw["faults"])
        found.append(Case(**{**raw, "faults": faults, "jobs": ended, "outcomes": outcomes}))
    return found


def write(cases: Sequence[Case], *, results: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Write the results and put the table into the document."""
    results.write_text(json.dumps([asdict(case) for case in cases], indent=1) + "\n")
    text = document.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n\n{table(cases)}\n{END}{after}")


def table(cases: Sequence[Case]) -> str:
    """Write the cases as a table of Markdown."""
    rows = [
        "| fault | what callers saw beside success | in time | faces by | well again "
        "| faces kept | images of jobs done |",
        "|---|---|---|---|---|---|---|",
        *(_row(case) for case in cases),
    ]
    return "\n".join(rows) + "\n"


def _row(case: Case) -> str:
    count = sum(sum(each.statuses.values()) for each in case.outcomes)
    in_time = sum(each.within_deadline * sum(each.statuses.values()) for each in case.outcomes)
    engines = sorted({engine for each in case.outcomes for engine in each.engines})
    well = "never" if case.well_after_seconds is None else f"{case.well_after_seconds:.0f} s"
    kept = f"{case.acknowledged - case.lost} of {case.acknowledged}"
    done = f"{case.jobs.done} of {case.jobs.accepted}"
    cells = (
        case.name,
        _troubles(case.outcomes),
        f"{in_time / count:.0%}" if count else "-",
        ", ".join(engines),
        well,
        kept,
        done,
    )
    return f"| {' | '.join(cells)} |"


def _troubles(outcomes: Sequence[Outcome]) -> str:
    """Name each answer that was no success, with the operations that got it."""
    by_status: dict[str, list[str]] = {}
    for outcome in outcomes:
        for status in outcome.statuses:
            if not status.startswith("2"):
                by_status.setdefault(status, []).append(outcome.operation)
    return "; ".join(
        f"{status}: {', '.join(operations)}" for status, operations in sorted(by_status.items())
    )

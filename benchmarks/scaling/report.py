"""The tables of docs/scaling.md."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.scaling.law import Law
from benchmarks.scaling.runs import Outcome

PRICE_PER_CORE_HOUR: Final = 0.05
"""In any currency; docs/capacity.md counts with the same."""
CORES: Final = 2
_BEGIN: Final = "<!-- {name}: written by `python -m benchmarks.scaling`; do not edit. -->"
_END: Final = "<!-- End of {name}. -->"


def put(document: Path, tables: Mapping[str, str]) -> None:
    """Write each table between its marks; raises ValueError where a mark is missing."""
    text = document.read_text()
    for name, table in tables.items():
        begin, end = _BEGIN.format(name=name), _END.format(name=name)
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}\n\n{table}\n{end}{after}"
    document.write_text(text)


def of_policies(runs: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Return the table of policies under each load."""
    rows = []
    for load, by_policy in runs.items():
        for policy, outcome in by_policy.items():
            hours = outcome.replica_seconds / 3600
            price = hours * CORES * PRICE_PER_CORE_HOUR
            answered = max(1, len(outcome.answers.seconds))
            shares = [_share(outcome), f"{hours:.1f}", f"{price * 1e6 / answered:.2f}"]
            top = max(ready for *_, ready, _ in outcome.rows)
            rows.append([load, policy, *percentiles(outcome), *shares, str(top)])
    head = "load | policy | p50 ms | p95 ms | p99 ms | refused | replica hours | cost of a million"
    return _table(f"{head} | most replicas", rows)


def of_sizes(rows: Iterable[tuple[int, float, Outcome]]) -> str:
    """Return the table of 1 to 100 replicas: their number, the rate that they get, the run."""
    made = []
    for replicas, rate, outcome in rows:
        price = replicas * CORES * PRICE_PER_CORE_HOUR
        first = [str(replicas), f"{rate * 60:,.0f}"]
        made.append([*first, *percentiles(outcome), _share(outcome), f"{price:.2f}"])
    head = "replicas | requests a minute | p50 ms | p95 ms | p99 ms | refused | cost of an hour"
    return _table(head, made)


def of_goal(rows: Iterable[tuple[int, Mapping[str, Outcome]]]) -> str:
    """Return the table of 10,000 requests a minute: replicas, and a run by way of balancing."""
    made = []
    for replicas, by_balancing in rows:
        for balancing, outcome in by_balancing.items():
            times = np.asarray(outcome.answers.seconds)
            within = float(np.sum(times <= 0.2)) / (len(times) + outcome.answers.refused)
            figures = [*percentiles(outcome), _share(outcome), f"{100 * within:.2f} %"]
            made.append([str(replicas), balancing, *figures])
    head = "replicas | balancing | p50 ms | p95 ms | p99 ms | refused | within 200 ms"
    return _table(head, made)


def of_laws(laws: Mapping[str, tuple[Law, Sequence[tuple[int, float]]]]) -> str:
    """Return the table of laws, with the simulated points."""
    counts = [count for count, _ in next(iter(laws.values()))[1]]
    rows = []
    for name, (law, points) in laws.items():
        factors = [f"{law.contention:.5f}", f"{law.crosstalk:.7f}", f"{100 * law.worst:.0f} %"]
        rows.append([name, *(f"{rate:,.0f}" for _, rate in points), *factors])
    head = " | ".join(["requests", *map(str, counts), "contention", "crosstalk", "worst deviation"])
    return _table(head, rows)


def percentiles(outcome: Outcome) -> list[str]:
    """Return p50, p95 and p99 of the answered requests, in milliseconds."""
    if not outcome.answers.seconds:
        return ["", "", ""]
    found = np.percentile(np.asarray(outcome.answers.seconds), [50, 95, 99])
    return [f"{1000 * each:,.0f}" for each in found]


def _share(outcome: Outcome) -> str:
    return f"{100 * outcome.answers.refused_share:.2f} %"


def _table(head: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])

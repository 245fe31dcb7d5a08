"""What callers saw of each fault: a row each, JSON, and the table of the documentation."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.support.served import CHECKOUT

RESULTS: Final = CHECKOUT / "benchmarks" / "results" / "cluster.json"
DOCUMENT: Final = CHECKOUT / "docs" / "reliability.md"
BEGIN: Final = "<!-- Written by `python -m benchmarks.cluster`; do not edit. -->"
END: Final = "<!-- End of the table of many hosts. -->"
_FEW: Final = 2


@dataclass(slots=True)
class Seen:
    """What the callers of one kind saw.

    problems: by request and reason.
    longest_seconds: of any answer, good or not.
    """

    asked: int = 0
    failed: int = 0
    p95_seconds: float = 0.0
    longest_seconds: float = 0.0
    problems: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """One fault and what followed until a few seconds after its end."""

    fault: str
    away: str
    seconds: float
    retrying: Seen
    hasty: Seen


@dataclass(slots=True)
class Kept:
    """What became of everything that was acknowledged in a run.

    doubled_faces: subjects with several faces, though each was enrolled once.
    """

    faces: int = 0
    lost_faces: int = 0
    doubled_faces: int = 0
    missed_searches: int = 0
    images: int = 0
    done_images: int = 0
    failed_images: int = 0
    lost_images: int = 0
    doubled_images: int = 0

    def __add__(self, other: "Kept") -> "Kept":
        """Return the sums."""
        mine, theirs = asdict(self), asdict(other)
        return Kept(**{name: value + theirs[name] for name, value in mine.items()})


def summarise(answers: Iterable[dict[str, Any]], *, retries: bool) -> Seen:
    """Count the answers of the callers that retry, or of those that do not."""
    these = [each for each in answers if each["retries"] == retries]
    good = [each["seconds"] for each in these if not each["problem"]]
    problems = Counter(f"{x['operation']}: {x['problem']}" for x in these if x["problem"])
    p95 = statistics.quantiles(good, n=20)[-1] if len(good) >= _FEW else 0.0
    longest = max((each["seconds"] for each in these), default=0.0)
    return Seen(len(these), len(these) - len(good), p95, longest, dict(problems))


def availability(rows: Sequence[Row], *, retries: bool) -> float:
    """Share of valid requests that got what they asked for."""
    seen = [row.retrying if retries else row.hasty for row in rows]
    asked = sum(each.asked for each in seen)
    return 1 - sum(each.failed for each in seen) / asked if asked else 0.0


def say(row: Row) -> None:
    """Print a row."""
    for words, seen in (("with retries", row.retrying), ("without", row.hasty)):
        print(
            f"{row.fault}: {words} {seen.asked - seen.failed} of {seen.asked}, "
            f"p95 {seen.p95_seconds:.2f} s, longest {seen.longest_seconds:.1f} s "
            f"{seen.problems or ''}",
            flush=True,
        )


def read(results: Path) -> tuple[list[Row], Kept]:
    """Read what `write` wrote; nothing where there is no file."""
    if not results.exists():
        return [], Kept()
    found = json.loads(results.read_text())
    rows = [
        Row(**{**row, "retrying": Seen(**row["retrying"]), "hasty": Seen(**row["hasty"])})
        for row in found["rows"]
    ]
    return rows, Kept(**found["kept"])


def write(rows: Sequence[Row], kept: Kept, results: Path) -> None:
    """Write the results of runs."""
    found = {"rows": [asdict(row) for row in rows], "kept": asdict(kept)}
    results.write_text(json.dumps(found, indent=1) + "\n")


def document(rows: Sequence[Row], kept: Kept, file: Path = DOCUMENT) -> None:
    """Put the table into the documentation."""
    before, _, rest = file.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(f"{before}{BEGIN}\n\n{table(rows, kept)}\n{END}{after}")


def table(rows: Sequence[Row], kept: Kept) -> str:
    """Write rows and sums in Markdown."""
    lines = [
        "| fault | away | requests answered, with retries | without | p95 with retries | longest "
        "| failed in spite of retries |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row.fault,
            row.away,
            _share(row.retrying),
            _share(row.hasty),
            f"{row.retrying.p95_seconds:.2f} s",
            f"{max(row.retrying.longest_seconds, row.hasty.longest_seconds):.1f} s",
            ", ".join(f"{count} x {what}" for what, count in row.retrying.problems.items()),
        )
        lines.append(f"| {' | '.join(cells)} |")
    sums = [
        "",
        f"**Over the run: {availability(rows, retries=True):.2%} of valid requests answered with "
        f"the client's retries, {availability(rows, retries=False):.2%} without.** "
        f"Faces: {kept.faces} acknowledged, {kept.lost_faces} lost, {kept.doubled_faces} doubled; "
        f"{kept.missed_searches} searches did not find a face that was enrolled. "
        f"Images of jobs: {kept.images} accepted, {kept.done_images} done, "
        f"{kept.failed_images} failed, {kept.lost_images} lost, {kept.doubled_images} doubled.",
    ]
    return "\n".join([*lines, *sums]) + "\n"


def _share(seen: Seen) -> str:
    return f"{seen.asked - seen.failed} of {seen.asked}"

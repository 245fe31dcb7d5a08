"""What the cards of all networks share: facts, tables, intervals, the licence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Metrics = Mapping[str, Any]

LICENCE = """## Licence

Research, non-commercial use only. The teacher's weights and the photos (FairFace CC BY 4.0, UTKFace
and MEBeauty for research) were given on such terms, and what was learnt from them stays under
them."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(value: Mapping[str, float], *, digits: int = 3) -> str:
    """A value with its 95 % interval."""
    return f"{value['value']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def facts(metrics: Metrics, extra: Sequence[tuple[str, str]]) -> str:
    """The table of a network's file, digest, size and what else there is to say of it."""
    rows = [
        ("file", f"`{metrics['file']}`")
        if "file" in metrics
        else ("stage", f"`{metrics['stage']}`"),
        ("SHA-256 of the trained network", f"`{metrics['sha256']}`"),
        ("size", f"{metrics['bytes'] / 1e6:.2f} MB"),
        *extra,
    ]
    return table(("fact", "value"), rows)

"""The shards of a collection, and the choice of which to rebuild next.

A rebuild reads the remaining points of its sources and writes them into one new, indexed shard: it
indexes, merges, and drops deleted points.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.vectors.edge.shard import EdgeShard

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

MERGE_FAN_IN = 4
_MOST_WAITING = 16
_LARGEST_SEALS = 20
"""Largest merged shard, in multiples of `seal_points`: a larger one would block searches too long
while it opens, and take too long to rebuild when a face is deleted."""


@dataclass(slots=True)
class Part:
    """A shard of the collection.

    written: points when it was sealed or built.
    forgotten_at: since when its files hold bytes of deleted points (seconds since 1970), or None;
    0 if its points have an older form of the payload.
    """

    folder: str
    built: bool
    shard: EdgeShard
    written: int
    forgotten_at: float | None = None


@dataclass(slots=True)
class Rebuild:
    """A running rebuild: spooling (process is None), then indexing."""

    sources: tuple[str, ...]
    spool: "Path"
    target: str
    source: int
    cursor: str | None
    chunks: int
    points: int
    removed: set[str]
    """Ids deleted from a source after it was spooled."""
    process: "subprocess.Popen[bytes] | None"


@dataclass(frozen=True, slots=True)
class Choice:
    """Shards to rebuild; `purges`: because of deleted points."""

    sources: tuple[str, ...]
    purges: bool


def choose(
    sealed: Sequence[Part], *, seal_points: int, forgotten_before: float, purged_last: bool
) -> Choice | None:
    """Choose shards to rebuild: with deleted or unindexed points (alternating), then by tiers.

    forgotten_before: shards that hold bytes deleted before (seconds since 1970) are due.
    """
    waiting = [part.folder for part in sealed if not part.built]
    due = [
        (part.forgotten_at, part.folder)
        for part in sealed
        if part.forgotten_at is not None and part.forgotten_at <= forgotten_before
    ]
    if due and not (waiting and purged_last):
        return Choice((min(due)[1],), purges=True)
    if len(waiting) >= MERGE_FAN_IN:
        # faces arrive faster than they are indexed: index many at once
        return Choice(tuple(waiting[:_MOST_WAITING]), purges=False)
    if waiting:
        return Choice((waiting[0],), purges=False)
    return _merge(sealed, seal_points)


def _merge(sealed: Sequence[Part], seal_points: int) -> Choice | None:
    tiers = Counter(_tier(part, seal_points) for part in sealed)
    for tier, number in sorted(tiers.items()):
        if number < MERGE_FAN_IN:
            continue
        chosen: list[Part] = []
        points = 0
        for part in sorted(sealed, key=lambda part: part.written):
            fits = points + part.written <= _LARGEST_SEALS * seal_points
            if _tier(part, seal_points) == tier and fits:
                chosen.append(part)
                points += part.written
        if len(chosen) > 1:
            names = {part.folder for part in chosen}
            return Choice(tuple(p.folder for p in sealed if p.folder in names), purges=False)
    return None


def _tier(part: Part, seal_points: int) -> int:
    ratio = max(part.written / seal_points, 1)
    return int(math.log(ratio, MERGE_FAN_IN) + 1e-9)

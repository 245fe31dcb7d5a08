"""Rank 2: what preparing a file yields, before it is placed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Prepared:
    """A tried graph for one stage, and what its sidecar shall say."""

    stage: str
    graph: bytes
    identity: int
    source: Path
    source_sha256: str
    network: str
    dimension: int | None = None
    """Width of an embedding; of a scoring head, of the embedding it takes."""
    space: int | None = None
    """Of a scoring head: the space that it was trained in."""

"""What preparing a file yields, before it is placed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lighter:
    """How a lighter graph was made of a float one, and what it costs."""

    precision: str
    """`int8` or `fp16`."""
    made_from: str
    """Id of the float graph, as `format_id` writes it."""
    layers: int
    """Layers with weights."""
    in_float: int
    """Of them, those left in 32 bits."""
    samples: str
    """What it was calibrated with and measured on, in two parts."""
    accuracy: Mapping[str, float]
    """Measured against the float graph, on samples that it was not calibrated with."""


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
    licence: str | None = None
    """Of a version that is made anew; the one that is told for an import goes before."""
    lighter: Lighter | None = None
    """Of a graph that is not the float one."""

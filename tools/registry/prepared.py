"""What preparing a file yields, before it is placed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Quantization:
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
    """A tested graph for one stage, and its metadata."""

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
    """Licence of a version that is made again; one named at the import takes precedence."""
    second_look: Mapping[str, Any] | None = None
    """Of a detector: what was measured for `triton_python_backend.second_look`."""
    lighter: Quantization | None = None
    """Of a graph that is not the float one."""

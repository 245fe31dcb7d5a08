"""What a version answered when it was measured: the reference against which drift is measured.

A `reference.json` lies beside the weights and belongs to the weights with the id in it.
"""

import logging
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from triton_python_backend.contract import ONNX_STAGES

log = logging.getLogger(__name__)

REFERENCE_FILE: Final = "reference.json"
MEASURES: Final[Mapping[str, tuple[str, ...]]] = {
    stage.name: stage.watched for stage in ONNX_STAGES
}
"""What is compared, by the stage whose reference holds it."""
_FRESH_SECONDS: Final = 10.0
_PRIOR: Final = 0.5
"""Faces added to each bin, so that an empty one has a logarithm (Jeffreys' prior)."""


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Histogram(_Shape):
    """Shares of faces between ascending edges; the first and last bin are open."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @model_validator(mode="after")
    def _bins_fit(self) -> "Histogram":
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError("there is one share more than edges")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges ascend")
        return self

    def bin(self, value: float) -> int:
        """The bin of a value; an edge belongs to the bin above it."""
        return bisect_right(self.edges, value)


class Reference(_Shape):
    """What one version of a stage answered for known photos."""

    id: str
    """Id of the weights."""
    made_with: dict[str, str]
    """Ids of the networks before it, by stage: crops and embeddings depend on them."""
    photos: str
    """The photos, in words."""
    faces: int = Field(gt=0)
    made_at: str
    """ISO 8601, UTC."""
    measures: dict[str, Histogram]
    mean: tuple[float, ...] | None = None
    """Of a stage that makes a vector: the unit vector towards the mean over all faces."""
    second_look: dict[str, float] | None = None
    """Of a detector: the confidences below which it is called again, see
    `triton_python_backend.second_look`."""
    portrait: tuple[float, ...] = ()
    """Its values for the shipped portrait, see `gateway.monitoring.golden_probe`."""


def psi(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Population stability index of counted faces against the shares of a reference.

    The sum over bins of (p - q) ln(p / q). 0: the same; 0.1 to 0.25: moved; above: another
    population. Chance alone gives about (bins - 1) / faces.
    """
    faces = sum(counts)
    total = faces + _PRIOR * len(shares)
    found = 0.0
    for count, share in zip(counts, shares, strict=True):
        now = (count + _PRIOR) / total
        # scale the reference to as many faces, so that both get the same prior
        then = (share * faces + _PRIOR) / total
        found += (now - then) * math.log(now / then)
    return found


def read_reference(folder: Path) -> Reference | None:
    """Read the reference of a version folder; None if it is missing or cannot be read."""
    path = folder / REFERENCE_FILE
    try:
        return Reference.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("reference not readable", extra={"path": str(path), "reason": str(error)})
        return None


class References:
    """The references of a repository by stage and id of the weights, read again regularly."""

    def __init__(self, repository: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._read_at = -math.inf
        self._known: dict[tuple[str, str], Reference] = {}

    def of(self, stage: str, identifier: str) -> Reference | None:
        """Find the reference of weights; reads a few small files if the last reading is old."""
        if self._clock() - self._read_at > _FRESH_SECONDS:
            self._known = {
                (each.name, found.id): found
                for each in ONNX_STAGES
                for path in sorted((self._repository / each.name).glob(f"[1-9]*/{REFERENCE_FILE}"))
                if (found := read_reference(path.parent)) is not None
            }
            self._read_at = self._clock()
        return self._known.get((stage, identifier))

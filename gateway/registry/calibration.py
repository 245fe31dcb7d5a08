"""Measured error rates of embedding versions: what a threshold means in a space.

FMR: share of pairs of different people that match; FNMR: share of pairs of one person that do not.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import InvalidRequestError
from triton_python_backend.contract import EMBEDDING_STAGE, candidate_of

log = logging.getLogger(__name__)

CALIBRATION_FILE: Final = "calibration.json"
DEFAULT_FMR: Final = 1e-3
"""One in a thousand pairs of different people may match by default."""
_FRESH_SECONDS: Final = 10.0


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Rate(_Shape):
    """Error rates at one threshold."""

    threshold: float = Field(ge=-1, le=1)
    fmr: float = Field(ge=0, le=1)
    fnmr: float = Field(ge=0, le=1)


class Calibration(_Shape):
    """The measured error rates of one space."""

    space: str
    source: str
    """File of labelled pairs, by name."""
    source_sha256: str
    same_pairs: int = Field(gt=0)
    different_pairs: int = Field(gt=0)
    without_face: int = Field(ge=0)
    """Photos without a face; their pairs are left out."""
    made_at: str
    """ISO 8601, UTC."""
    rates: tuple[Rate, ...] = Field(min_length=1)
    """Ascending thresholds, descending FMR."""

    @property
    def lowest_fmr(self) -> float:
        """The lowest FMR above 0 that this number of pairs can measure."""
        return 1 / self.different_pairs

    def threshold_at(self, fmr: float) -> float | None:
        """The lowest threshold with at most this FMR; None if there are too few pairs."""
        if fmr < self.lowest_fmr:
            return None
        return next((rate.threshold for rate in self.rates if rate.fmr <= fmr), None)


def read_calibration(folder: Path) -> Calibration | None:
    """Read the calibration of a version folder; None if it is missing or cannot be read."""
    path = folder / CALIBRATION_FILE
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("calibration cannot be read", extra={"path": str(path), "reason": str(error)})
        return None


class Calibrations:
    """The calibrations of a repository by space, read again every few seconds."""

    def __init__(self, repository: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        stage = EMBEDDING_STAGE.name
        # a version on trial has its own
        self._stages = (repository / stage, repository / candidate_of(stage))
        self._clock = clock
        self._read_at = -_FRESH_SECONDS
        self._known: dict[str, Calibration] = {}

    def of_space(self, space: str) -> Calibration | None:
        """Find the calibration of a space; reads a few small files if the last reading is old."""
        if self._clock() - self._read_at > _FRESH_SECONDS:
            paths = [
                path
                for stage in self._stages
                for path in sorted(stage.glob(f"[1-9]*/{CALIBRATION_FILE}"))
            ]
            read = [read_calibration(path.parent) for path in paths]
            self._known = {each.space: each for each in read if each is not None}
            self._read_at = self._clock()
        return self._known.get(space)

    def threshold(self, space: str, *, target_fmr: float | None, otherwise: float) -> float:
        """Choose a threshold for a space.

        Args:
            space: id of the space.
            target_fmr: as requested; None: the default, if the space is calibrated.
            otherwise: the threshold without a target and without a calibration.

        Raises:
            InvalidRequestError: a target that no calibration of the space can give.
        """
        calibration = self.of_space(space)
        if target_fmr is None:
            found = calibration.threshold_at(DEFAULT_FMR) if calibration else None
            return otherwise if found is None else found
        if calibration is None:
            message = f"target_fmr: the embeddings of space {space} have no calibration"
            raise InvalidRequestError(message)
        found = calibration.threshold_at(target_fmr)
        if found is None:
            raise InvalidRequestError(
                f"target_fmr: {calibration.different_pairs} pairs of different people give rates "
                f"from {calibration.lowest_fmr:.2g}"
            )
        return found

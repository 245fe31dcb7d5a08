"""The confidences, per detector, below which a picture is searched further.

One detector detects every face with at least 0.7, another one with 0.85. A version's measured
confidences are stored beside its weights; the alignment stage finds them by the weights' id.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from triton_python_backend import contract

SECOND_LOOK: Final = "second_look"
"""Key of the measured confidences in the files of a version."""

FILES: Final = ("model.json", "reference.json")
"""Files beside the weights that may contain them: written by the import, and by a later measurement
on photos, which takes precedence."""

FRESH_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Confidences of the best face below which a picture is searched further.

    closeup_below: limit for the frame's best face; below it the close-up is searched. turned_below:
    limit for the best upright face; below it rotated views are searched. The defaults are for a
    detector without measured values.
    """

    closeup_below: float = 0.77
    turned_below: float = 0.72

    @classmethod
    def read(cls, found: object) -> "SecondLook | None":
        """Read a file's entry `SECOND_LOOK`; None if it is malformed."""
        if not isinstance(found, Mapping):
            return None
        values = [found.get(key) for key in ("closeup_below", "turned_below")]
        if not all(isinstance(each, int | float) and 0 <= each <= 1 for each in values):
            return None
        return cls(*(float(each) for each in values if each is not None))


UNMEASURED: Final = SecondLook()


class SecondLooks:
    """The measured confidences of all detectors of a repository, re-read periodically."""

    def __init__(self, repository: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read below `repository`, the folder of all stages."""
        self._repository = repository
        self._clock = clock
        self._read_at = -math.inf
        self._known: dict[int, SecondLook] = {}

    def of(self, detector: int) -> SecondLook:
        """Return the confidences of the weights with this id; `UNMEASURED` if there are none.

        Reads a few small files if its data is older than `FRESH_SECONDS`.
        """
        if self._clock() - self._read_at > FRESH_SECONDS:
            self._known = dict(self._read())
            self._read_at = self._clock()
        return self._known.get(detector, UNMEASURED)

    def _read(self) -> list[tuple[int, SecondLook]]:
        stage = contract.DETECTION.name
        return [
            found
            for name in FILES
            for model in (stage, contract.candidate_of(stage))
            for path in sorted((self._repository / model).glob(f"[1-9]*/{name}"))
            if (found := _read_file(path)) is not None
        ]


def _read_file(path: Path) -> tuple[int, SecondLook] | None:
    try:
        document: Any = json.loads(path.read_bytes())
        limits = SecondLook.read(document.get(SECOND_LOOK))
        return None if limits is None else (contract.parse_id(document["id"]), limits)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        # a folder copied by hand may contain anything; its detector counts as not measured
        return None

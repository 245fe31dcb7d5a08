"""Below which confidences a picture is looked at again: they belong to a detector's weights.

One detector is sure of every face at 0.7, another one at 0.85. What was measured of a version lies
beside its weights, and the alignment stage reads it by the id that came with the frame's faces.
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
"""Key of the measured confidences in a version's files."""

FILES: Final = ("model.json", "reference.json")
"""Files beside the weights that may have them: written by the import, and by a later measurement
on photos, which counts for more."""

FRESH_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class SecondLook:
    """Confidences of the surest face below which a picture is looked at again.

    closeup_below: the frame's surest face; below it the close-up is looked at, too. turned_below:
    the surest upright face; below it the picture is looked at turned. The defaults are for a
    detector of which nothing was measured.
    """

    closeup_below: float = 0.77
    turned_below: float = 0.72

    @classmethod
    def read(cls, found: object) -> "SecondLook | None":
        """Read what a file has under `SECOND_LOOK`; None for what is no such thing."""
        if not isinstance(found, Mapping):
            return None
        values = [found.get(key) for key in ("closeup_below", "turned_below")]
        if not all(isinstance(each, int | float) and 0 <= each <= 1 for each in values):
            return None
        return cls(*(float(each) for each in values if each is not None))


UNMEASURED: Final = SecondLook()


class SecondLooks:
    """The measured confidences of all detectors of a repository, read anew now and then."""

    def __init__(self, repository: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """repository: the folder of all stages."""
        self._repository = repository
        self._clock = clock
        self._read_at = -math.inf
        self._known: dict[int, SecondLook] = {}

    def of(self, detector: int) -> SecondLook:
        """Find those of the weights with an id; `UNMEASURED` if there are none.

        Reads a few small files when what it has is older than `FRESH_SECONDS`.
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
        # a folder that was dropped by hand may hold anything; its detector is one not measured
        return None

"""The measures of a face by which drift is followed, as `contract.Stage.watched` names them."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.types import Face
from triton_python_backend.contract import QUALITY_COLUMNS, Stage

_FIELDS: Final = {
    "confidence": attrgetter("confidence"),
    **{column: attrgetter(f"quality.{column}") for column in QUALITY_COLUMNS},
}


def measure_face(
    stage: Stage, face: Face, mean: npt.NDArray[np.floating[Any]] | None
) -> Iterator[tuple[str, float]]:
    """Name and value of each measure that a face has; NaN where the weights do not fit.

    mean: the unit vector towards the mean of the stage's vectors; None: it makes none.
    """
    for name in stage.measures:
        yield name, _FIELDS[name](face)
    for output in stage.face_outputs:
        value = face.outputs.get(output.name)
        if output.watched is None or value is None:
            continue
        if output.is_number:
            yield output.watched, value
        elif mean is not None and value.shape == mean.shape:
            yield output.watched, float(value @ mean)

"""Stage 6 of 7: from the rows of a batch to the faces of the image.

Stages that batch refuse zero rows, so `face_alignment` gives them one black crop, the filler, where
there is no face. Its row is dropped here.
"""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


def drop_filler(rows: Array, *, faces: int) -> Array:
    """Keep the rows [faces, ...] of the faces; the only other row is the filler.

    Raises:
        ValueError: if there are fewer rows than faces.
    """
    if len(rows) < faces:
        message = f"{len(rows)} rows for {faces} faces"
        raise ValueError(message)
    return rows[:faces]


def said_once(ids: Array) -> Array:
    """Reduce an id that each row repeats, [N,1] int64, to one, [1] int64.

    The rows of one request pass the network in one batch of one version, so all have the same id.
    """
    return ids.reshape(-1)[:1]

"""Stage 6 of 6: from the rows of a batch to the faces of the image.

Stages that batch reject zero rows. So for an image without faces `face_alignment` outputs one black
crop, the filler; its row is dropped here.
"""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


def drop_filler(rows: Array, *, faces: int) -> Array:
    """Keep the rows [faces, ...] of the faces; a filler row may follow them.

    Raises:
        ValueError: if there are fewer rows than faces.
    """
    if len(rows) < faces:
        message = f"{len(rows)} rows for {faces} faces"
        raise ValueError(message)
    return rows[:faces]


def said_once(ids: Array) -> Array:
    """Reduce an id repeated in each row, [N,1] int64, to one, [1] int64.

    One version processes all rows of a request in one batch, so all have the same id.
    """
    return ids.reshape(-1)[:1]

"""Stage 6 of 7: from rows that always hold something to the faces of the image.

Stages that batch refuse zero rows, so `face_alignment` hands them one black crop where there is
no face. Its row goes out here.
"""

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


def drop_filler(rows: Array, *, faces: int) -> Array:
    """Keep the rows [faces, ...] of the faces; the filler, if any, is the only other row.

    Raises:
        ValueError: if there are fewer rows than faces.
    """
    if len(rows) < faces:
        message = f"{len(rows)} rows for {faces} faces"
        raise ValueError(message)
    return rows[:faces]


def said_once(ids: Array) -> Array:
    """Reduce an id that each row repeats, [N,1] int64, to one, [1] int64.

    The rows of one request went through the network as parts of one batch of one version, so
    all carry the same id.
    """
    return ids.reshape(-1)[:1]

"""Assignment of the network's rows to faces, and the rows' targets.

Row order is SCRFD's: level (stride 8, 16, 32), row, column, anchor. The two anchors of a level
are for faces of two sizes, and all six span 16 to 512 pixels in octaves, as SCRFD's do. A face is
assigned to every anchor whose size is within `MATCH_OCTAVES` of its own, in the cells around its
centre.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.training.detection.scrfd import STRIDES, FloatArray, cell_centres

PER_CELL = 2
ANCHOR_SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))  # pixels, per stride
MATCH_OCTAVES = 0.6
NEAR_OCTAVES = 0.9  # up to here the scores around the centre have no loss
REACH_STRIDES = 0.75
REACH_SIZE = 0.15


@dataclass(frozen=True, slots=True)
class Rows:
    """centres ``[M,2]`` pixels, strides ``[M]``, bases ``[M]`` pixels, for one image size."""

    centres: FloatArray
    strides: FloatArray
    bases: FloatArray


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of the network's M rows for one image.

    weight: ``[M]`` float32, 0 for scores without a loss; rows: ``[P]`` int64, the rows with
    a face; scores: ``[P]`` float32 0-1, their target, NaN: the overlap of the predicted box is the
    target; boxes: ``[P,4]`` float32 distances (left, top, right, bottom) and
    points ``[P,5,2]`` float32 offsets, both in strides from the row's centre.
    """

    weight: FloatArray
    rows: npt.NDArray[np.int64]
    scores: FloatArray
    boxes: FloatArray
    points: FloatArray


def make_rows(size: int) -> Rows:
    """List the rows for an image of ``size`` x ``size``, a multiple of 32."""
    centres, strides, bases = [], [], []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES, strict=True):
        cells = cell_centres(height=size, width=size, stride=stride, per_cell=PER_CELL)
        centres.append(cells)
        strides.append(np.full(len(cells), stride, np.float32))
        bases.append(np.tile(np.array(sizes, np.float32), len(cells) // PER_CELL))
    return Rows(np.concatenate(centres), np.concatenate(strides), np.concatenate(bases))


def assign(rows: Rows, boxes: FloatArray, points: FloatArray, ignored: FloatArray) -> Targets:
    """Make targets for faces ``[N,4]``, ``[N,5,2]`` and regions to ignore ``[K,4]``, all in pixels.

    A row that matches two faces belongs to the one with the nearer centre, in units of size.
    """
    weight = np.ones(len(rows.centres), np.float32)
    for x1, y1, x2, y2 in ignored:
        inside = (
            (rows.centres[:, 0] > x1)
            & (rows.centres[:, 0] < x2)
            & (rows.centres[:, 1] > y1)
            & (rows.centres[:, 1] < y2)
        )
        weight[inside] = 0
    if len(boxes) == 0:
        return Targets(
            weight,
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
            np.zeros((0, 4), np.float32),
            np.zeros((0, 5, 2), np.float32),
        )
    sizes = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    octaves = np.abs(np.log2(np.clip(sizes, 16, 512)[:, None] / rows.bases[None]))
    distance = np.abs(rows.centres[None] - middles[:, None]).max(axis=2)
    reach = np.maximum(REACH_STRIDES * rows.strides[None], REACH_SIZE * sizes[:, None])
    reach = np.minimum(reach, np.maximum(0.45 * sizes, 4.01)[:, None])
    around = distance <= reach
    weight[(around & (octaves <= NEAR_OCTAVES)).any(axis=0)] = 0
    cost = np.where(around & (octaves <= MATCH_OCTAVES), distance / sizes[:, None], np.inf)
    owner = cost.argmin(axis=0)
    positive = np.flatnonzero(np.isfinite(cost.min(axis=0)))
    weight[positive] = 1
    face = owner[positive]
    centre, stride = rows.centres[positive], rows.strides[positive, None]
    near = np.concatenate([centre - boxes[face, :2], boxes[face, 2:] - centre], axis=1) / stride
    offsets = (points[face] - centre[:, None]) / stride[:, None]
    scores = np.full(len(positive), np.nan, np.float32)
    return Targets(weight, positive, scores, near.astype(np.float32), offsets.astype(np.float32))

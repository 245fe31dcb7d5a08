"""A face's frame and its upright crop, in NumPy.

`tools.importing.graph.refine_landmarks` implements the same in a graph.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.importing.graph.refine_landmarks import REACH, SHORTEST, SIDE, crop_grid

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frames:
    """Positions of faces in a canvas.

    centres: ``[M,2]`` pixels; down: ``[M,2]``, of length 1, from eyes to mouth; halves: ``[M]``,
    pixels from the centre of a crop to its edge.
    """

    centres: FloatArray
    down: FloatArray
    halves: FloatArray

    def axes(self) -> FloatArray:
        """Vectors of half a crop's side to the right and down, in canvas pixels: ``[M,2,2]``."""
        right = np.stack([self.down[:, 1], -self.down[:, 0]], axis=1)
        return np.asarray(np.stack([right, self.down], axis=1) * self.halves[:, None, None])

    def inward(self, points: FloatArray) -> FloatArray:
        """Convert canvas pixels ``[M,P,2]`` to the faces' frames."""
        moved = (points - self.centres[:, None]) @ self.axes().transpose(0, 2, 1)
        return np.asarray(moved / self.halves[:, None, None] ** 2, np.float32)

    def outward(self, points: FloatArray) -> FloatArray:
        """Convert points of the faces' frames ``[M,P,2]`` to canvas pixels."""
        return np.asarray(points @ self.axes() + self.centres[:, None], np.float32)

    def shaken(self, rng: np.random.Generator) -> "Frames":
        """Return randomly jittered frames, as from slightly different detections."""
        count = len(self.halves)
        angle = rng.normal(0, 0.12, count)
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = self.down.T
        shift = rng.normal(0, 0.06, (count, 2)) * self.halves[:, None]
        return Frames(
            (self.centres + shift).astype(np.float32),
            np.stack([x * cos - y * sin, x * sin + y * cos], axis=1).astype(np.float32),
            (self.halves * np.exp(rng.normal(0, 0.08, count))).astype(np.float32),
        )


def frames_of(boxes: FloatArray, landmarks: FloatArray) -> Frames:
    """Return the frames of faces with ``[M,4]`` boxes and ``[M,5,2]`` landmarks."""
    sides = boxes[:, 2:] - boxes[:, :2]
    size = np.sqrt(np.maximum(sides.prod(axis=1), 1))
    way = (landmarks[:, 3:].sum(axis=1) - landmarks[:, :2].sum(axis=1)) / 2
    length = np.linalg.norm(way, axis=1)
    down = np.where(
        (length > SHORTEST * size)[:, None],
        way / np.maximum(length, 1e-6)[:, None],
        np.array([[0, 1]]),
    )
    centres = (boxes[:, :2] + boxes[:, 2:]) / 4 + landmarks.mean(axis=1) / 2
    return Frames(
        centres.astype(np.float32), down.astype(np.float32), (size * REACH / 2).astype(np.float32)
    )


def cut(canvas: ByteArray, frames: Frames) -> FloatArray:
    """Crops ``[M,SIDE,SIDE,3]``, 0-255, of ``[H,W,3]``; the border is replicated."""
    grid = np.broadcast_to(crop_grid(), (len(frames.halves), SIDE * SIDE, 2))
    last = np.array([canvas.shape[1] - 1, canvas.shape[0] - 1])
    places = np.clip(frames.outward(grid) - 0.5, 0, last)
    first = np.floor(places).astype(np.int64)
    x, y = np.moveaxis(places - first, -1, 0)[..., None]
    (x0, y0), (x1, y1) = (np.moveaxis(near, -1, 0) for near in (first, np.minimum(first + 1, last)))
    upper = canvas[y0, x0] * (1 - x) + canvas[y0, x1] * x
    lower = canvas[y1, x0] * (1 - x) + canvas[y1, x1] * x
    crops = upper * (1 - y) + lower * y
    return np.asarray(crops.reshape(-1, SIDE, SIDE, 3), np.float32)

"""Mosaics: parts of real scenes and photos side by side, for many small real faces.

There are few photographed scenes with people, and a picture shows only a part of one. A tile shows
the surroundings of a face, a complete photo, or a scene without faces. Edges between tiles give no
hint, as tiles without faces have the same edges.
"""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from tools.training.detection.augment import colour_jitter, degrade
from tools.training.detection.dataset import Scene
from tools.training.detection.sample import Sample
from tools.training.detection.scrfd import ByteArray, FloatArray

SMALLEST = 14.0  # pixels of the canvas
PEOPLED, WHOLE = 0.6, 0.8  # bounds of the shares of scenes with people and of whole photos
MINIATURES = (2, 6)  # scenes without faces in a row: lower bound, exclusive upper bound
TURNED = 0.2  # share of them upside down
FEW = 400  # pixels: smaller canvases have two by two tiles

Photo = tuple[ByteArray, FloatArray, FloatArray]


class Mosaics:
    """Makes mosaics of the given scenes, and of photos that `draw_photo` draws for a face size."""

    def __init__(
        self,
        peopled: list[Scene],
        empty: list[Scene],
        draw_photo: Callable[[np.random.Generator, float], Photo],
    ) -> None:
        self._seen = [(scene, face) for scene in peopled for face in range(len(scene.seen))]
        scores = np.array([scene.seen.scores[face] for scene, face in self._seen])
        self._bounds = np.cumsum(scores**2)  # objects similar to faces are drawn less often
        self._empty = empty
        self._draw_photo = draw_photo

    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        """Make one mosaic of ``size`` x ``size``.

        It has no labels: its faces are regions to ignore, except for the teacher's targets.
        """
        image = np.empty((size, size, 3), np.uint8)
        ignored: list[FloatArray] = [np.empty((0, 4), np.float32)]
        columns = cuts(rng, size)
        for top, bottom in cuts(rng, size):
            for left, right in columns:
                tile, boxes = self._tile(rng, right - left, bottom - top)
                image[top:bottom, left:right] = tile
                ignored.append(boxes + np.array([left, top, left, top], np.float32))
        return Sample(
            image=degrade(image, rng),
            boxes=np.empty((0, 4), np.float32),
            points=np.empty((0, 5, 2), np.float32),
            ignored=np.concatenate(ignored),
        )

    def without_faces(self, rng: np.random.Generator, size: int) -> ByteArray:
        """Tile miniature scenes without faces, ``[size,size,3]`` uint8, for many small objects."""
        image = np.empty((size, size, 3), np.uint8)
        lines = [round(line) for line in np.linspace(0, size, int(rng.integers(*MINIATURES)) + 1)]
        for top, bottom in pairwise(lines):
            for left, right in pairwise(lines):
                scene = self._empty[rng.integers(len(self._empty))].image
                no_face = np.empty((0, 4), np.float32)
                tile, _ = cut_out(
                    rng, scene, no_face, focus=0, target=0, shape=(bottom - top, right - left)
                )
                turned = np.rot90(tile, 2) if rng.random() < TURNED else tile
                image[top:bottom, left:right] = turned
        return image

    def _tile(
        self, rng: np.random.Generator, width: int, height: int
    ) -> tuple[ByteArray, FloatArray]:
        """A tile ``[height,width,3]`` uint8 and the boxes ``[N,4]`` of the faces in it."""
        kind, side = rng.random(), min(width, height)
        target = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(0.8 * side))))
        focus = 0
        if kind < PEOPLED and self._seen:
            drawn = np.searchsorted(self._bounds, rng.random() * self._bounds[-1])
            scene, focus = self._seen[int(drawn)]
            image, boxes = scene.image, scene.seen.boxes
        elif kind < WHOLE:
            image, box, _ = self._draw_photo(rng, target)
            boxes = box[None]
        else:
            image = self._empty[rng.integers(len(self._empty))].image
            boxes = np.empty((0, 4), np.float32)
        return cut_out(rng, image, boxes, focus=focus, target=target, shape=(height, width))


def cuts(rng: np.random.Generator, size: int) -> list[tuple[int, int]]:
    """Split `size` into two or three stretches of different lengths."""
    count = 2 if size < FEW else int(rng.integers(2, 4))
    lengths = rng.uniform(0.7, 1.3, count)
    ends = [0, *np.round(np.cumsum(lengths) / lengths.sum() * size).astype(int).tolist()]
    return list(pairwise(ends))


def cut_out(
    rng: np.random.Generator,
    image: ByteArray,
    boxes: FloatArray,
    *,
    focus: int,
    target: float,
    shape: tuple[int, int],
) -> tuple[ByteArray, FloatArray]:
    """Cut a tile ``[*shape,3]`` out of `image`, in which face `focus` is `target` pixels large.

    boxes: ``[N,4]``, the image's faces; returned in the tile's pixels. The face becomes larger if
    the whole image would not fill the tile; without a face, a random part is used.
    """
    size_y, size_x = image.shape[:2]
    height, width = shape
    least = max(width / size_x, height / size_y)
    if len(boxes):
        x1, y1, x2, y2 = boxes[focus]
        scale = max(least, target / max(float(np.sqrt((x2 - x1) * (y2 - y1))), 1.0))
        middle = np.array([x1 + x2, y1 + y2]) / 2
    else:
        scale = least * rng.uniform(1.0, 2.0)
        middle = rng.uniform(0, 1, 2) * [size_x, size_y]
    reach = np.array([width, height]) / scale  # the tile's size in image pixels
    room = np.array([size_x, size_y]) - reach
    start = np.clip(middle - reach * rng.uniform(0.25, 0.75, 2), 0, np.maximum(room, 0))
    left, top = np.floor(start).astype(int)
    right, bottom = np.ceil(start + reach).astype(int)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)
    stretch = np.array([width / part.shape[1], height / part.shape[0]], np.float32)
    moved = (boxes - np.array([left, top, left, top], np.float32)) * np.tile(stretch, 2)
    if rng.random() < 0.5:
        tile = np.ascontiguousarray(tile[:, ::-1])
        moved = moved[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + np.array([width, 0, width, 0])
    return colour_jitter(tile, rng), moved.astype(np.float32)

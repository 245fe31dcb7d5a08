"""Part of stage 3 of 6: split a large picture into overlapping tiles at several scales.

A tile shows faces from 16 pixels on. A face larger than the overlap may be cut off on every tile of
one scale, but is complete on a tile of a coarser scale, where it is smaller.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from triton_python_backend.contract import FRAME_SIZE
from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.detection import Detections
from triton_python_backend.geometry import Letterbox
from triton_python_backend.preprocess import whole_blocks

OVERLAP: Final = 128
"""Smallest overlap of adjacent tiles in pixels."""

MARGIN: Final = 0.15
"""A face nearer to a tile's inner edge than this share of its longer edge may be cut off."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture at one scale.

    canvas: [h,w,3] uint8 RGB. letterbox: the map from the image to it. inner: left, top, right and
    bottom edge in its pixels; infinite at the picture's own edges.
    """

    canvas: Pixels
    letterbox: Letterbox
    inner: tuple[float, float, float, float]

    def whole_faces(self, found: Detections) -> Detections:
        """Remove faces that an inner edge may cut off; another tile shows them completely.

        found: in pixels of the canvas.
        """
        margin = MARGIN * (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0)
        left, top, right, bottom = self.inner
        return found.take(
            (found.boxes[:, 0] - margin >= left)
            & (found.boxes[:, 1] - margin >= top)
            & (found.boxes[:, 2] + margin <= right)
            & (found.boxes[:, 3] + margin <= bottom)
        )


def make_tiles(picture: Picture) -> Iterator[Tile]:
    """Split a picture into tiles at full scale, a half, a quarter, until it fits the frame.

    picture: at full scale.
    """
    pixels, scale = picture.pixels, 1.0
    while max(pixels.shape[:2]) > FRAME_SIZE:
        yield from _cut(pixels, scale)
        pixels = _halved(pixels)
        scale /= 2


def _cut(pixels: Pixels, scale: float) -> Iterator[Tile]:
    height, width = pixels.shape[:2]
    padded = _padded(pixels)
    high, wide = (min(edge, FRAME_SIZE) for edge in padded.shape[:2])
    shift = scale / 2 - 0.5
    for top in starts(height):
        for left in starts(width):
            yield Tile(
                padded[top : top + high, left : left + wide],
                Letterbox(scale, shift - left, shift - top),
                (
                    0 if left else -np.inf,
                    0 if top else -np.inf,
                    FRAME_SIZE if left + FRAME_SIZE < width else np.inf,
                    FRAME_SIZE if top + FRAME_SIZE < height else np.inf,
                ),
            )


def busiest_tiles(picture: Picture, *, most: int) -> list[Tile]:
    """Choose the tiles with the most contrast between adjacent pixels, from all scales."""

    def contrast(tile: Tile) -> float:
        sample = tile.canvas[::4, ::4, 1].astype(np.int16)
        return float(np.abs(np.diff(sample, axis=0)).mean())

    return sorted(make_tiles(picture), key=contrast, reverse=True)[:most]


def starts(edge: int) -> list[int]:
    """Return the evenly spaced starts of tiles along an edge; the last tile ends at its end."""
    if edge <= FRAME_SIZE:
        return [0]
    count = -(-(edge - OVERLAP) // (FRAME_SIZE - OVERLAP))
    return [round(at * (edge - FRAME_SIZE) / (count - 1)) for at in range(count)]


def _halved(pixels: Pixels) -> Pixels:
    # the last row or column of an odd edge is dropped: it is half a pixel of the next level
    height, width = (max(edge // 2 * 2, 1) for edge in pixels.shape[:2])
    size = (max(width // 2, 1), max(height // 2, 1))
    halved = cv2.resize(pixels[:height, :width], size, interpolation=cv2.INTER_AREA)
    return np.asarray(halved, dtype=np.uint8)


def _padded(pixels: Pixels) -> Pixels:
    """Pad edges shorter than the frame to multiples of the detector's step, with black."""
    height, width = pixels.shape[:2]
    below = max(whole_blocks(min(height, FRAME_SIZE)) - height, 0)
    beside = max(whole_blocks(min(width, FRAME_SIZE)) - width, 0)
    if not below and not beside:
        return pixels
    padded = cv2.copyMakeBorder(pixels, 0, below, 0, beside, cv2.BORDER_CONSTANT)
    return np.asarray(padded, dtype=np.uint8)

"""Views of aligned crops for training: one affine warp each, cheap degradations by chance.

A view is the 112 px middle of a cached crop, jittered as a landmark error would jitter it, mirrored
every second time, and now and then blurred, shrunk, compressed, recoloured or partly covered. It
may be sampled at a lower resolution than 112, which the first part of a training uses to save time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

CROP = 128
"""Side of a cached crop, pixels: the view with a margin around it."""

VIEW = 112
"""Side of the view that the networks see, pixels."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Chances (0-1) and sizes of what happens to a view."""

    flip: float = 0.5
    rotation: float = 3.0
    """Standard deviation, degrees."""
    scale: float = 0.04
    """Standard deviation of the relative size."""
    shift: float = 1.5
    """Standard deviation, pixels of the 112 px view."""
    shrink: float = 0.15
    blur: float = 0.06
    jpeg: float = 0.12
    colour: float = 0.4
    grey: float = 0.08
    cover: float = 0.1
    backdrop: float = 0.7
    """Chance that black beyond the photo's edge shows what another crop has there."""


def make_view(
    crop: Image, *, flip: bool, side: int, recipe: Recipe, rng: np.random.Generator
) -> Image:
    """One view [side,side,3] uint8 RGB of a crop [CROP,CROP,3] uint8 RGB."""
    angle, size, dx, dy = rng.standard_normal(4) * (
        np.deg2rad(recipe.rotation),
        recipe.scale,
        recipe.shift,
        recipe.shift,
    )
    zoom = float(np.clip(1 + size, 0.88, 1.12)) * side / VIEW
    cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
    linear = np.array([[cosine, -sine], [sine, cosine]])
    if flip:
        linear[:, 0] *= -1
    middle = (side - 1) / 2 + np.clip([dx, dy], -4, 4) * side / VIEW
    matrix = np.hstack([linear, (middle - linear @ np.full(2, (CROP - 1) / 2))[:, None]])
    view = cv2.warpAffine(crop, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return _degrade(_pixels(view), recipe=recipe, rng=rng)


def _pixels(array: object) -> Image:
    """What OpenCV returns, under the type that it has."""
    return np.asarray(array, np.uint8)


def _degrade(view: Image, *, recipe: Recipe, rng: np.random.Generator) -> Image:
    side = view.shape[0]
    chance = rng.random(6)
    image: Image = view
    if chance[0] < recipe.colour:
        gain = 1 + rng.normal(0, 0.18)
        tint = 1 + rng.normal(0, 0.05, 3)
        mean = float(image.mean())
        lift = rng.normal(0, 18)
        wide = (image.astype(np.float32) - mean) * gain * tint + mean + lift
        image = np.clip(wide, 0, 255).astype(np.uint8)
    if chance[1] < recipe.grey:
        image = _pixels(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))
    if chance[2] < recipe.shrink:
        small = max(12, int(side * rng.uniform(0.22, 0.7)))
        shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = _pixels(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR))
    if chance[3] < recipe.blur:
        width = float(rng.uniform(0.5, 2.0)) * side / VIEW
        image = _pixels(cv2.GaussianBlur(image, (0, 0), width))
    if chance[4] < recipe.jpeg:
        quality = int(rng.integers(15, 70))
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = _pixels(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    if chance[5] < recipe.cover:
        height, width = (int(side * rng.uniform(0.15, 0.45)) for _ in range(2))
        top, left = int(rng.integers(0, side - height)), int(rng.integers(0, side - width))
        image = image.copy()
        image[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return image


def fill_backdrop(crop: Image, other: Image, *, rng: np.random.Generator) -> Image:
    """`crop` with its exactly black pixels, mostly those beyond the photo, taken from elsewhere.

    Tightly cropped photos leave black corners after alignment; faces in the wild have none. The
    filling is one colour or an enlarged part of `other`.
    """
    black = np.zeros(3, np.uint8)
    outside = cv2.inRange(crop, black, black)
    if rng.random() < 0.3:
        filling = np.empty_like(crop)
        filling[:] = rng.integers(0, 256, 3)
    else:
        top, left = rng.integers(0, CROP // 2, 2)
        part = other[top : top + CROP // 2, left : left + CROP // 2]
        filling = _pixels(cv2.resize(part, (CROP, CROP), interpolation=cv2.INTER_LINEAR))
    return _pixels(cv2.copyTo(filling, outside, crop.copy()))


def make_batch(
    crops: Image, rows: NDArray[np.int64], *, side: int, recipe: Recipe, rng: np.random.Generator
) -> tuple[Image, NDArray[np.bool_]]:
    """Views [B,side,side,3] uint8 of the given rows, and which of them are mirrored [B]."""
    flips = rng.random(len(rows)) < recipe.flip
    views = np.empty((len(rows), side, side, 3), np.uint8)
    for place, (row, flip) in enumerate(zip(rows, flips, strict=True)):
        crop = np.asarray(crops[row])
        if rng.random() < recipe.backdrop:
            crop = fill_backdrop(crop, np.asarray(crops[rng.choice(rows)]), rng=rng)
        views[place] = make_view(crop, flip=bool(flip), side=side, recipe=recipe, rng=rng)
    return views, flips

"""Randomly drawn objects that are no faces: dials, keys, buttons, ornaments.

There are few photographed scenes without faces, and a small detector mistakes round or square
objects with dark spots for small faces. Drawn objects are unlimited.
"""

import cv2
import numpy as np
import numpy.typing as npt

from tools.training.detection.scrfd import ByteArray

SMALLEST, LARGEST = 10.0, 0.3  # pixels, share of the picture's side
MOST = 24  # objects, each single or in a row
IN_A_ROW = 6
SPOTS = 6
FRACTION_BITS = 4  # OpenCV draws circles at sixteenths of a pixel

Colour = tuple[int, int, int]


def with_distractors(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Draw objects over ``[S,S,3]`` uint8, single ones or rows of similar ones."""
    image = image.copy()
    side = image.shape[0]
    for _ in range(int(rng.integers(1, MOST))):
        size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST * side))))
        thing, mask = _thing(rng, max(8, round(size)))
        step = rng.normal(0, 1, 2)
        step *= size * rng.uniform(1.0, 1.6) / np.linalg.norm(step)
        place = rng.uniform(-0.1, 1.0, 2) * side
        for _ in range(int(rng.integers(1, IN_A_ROW)) if rng.random() < 0.5 else 1):
            _paste(image, thing, mask, place)
            place = place + step
    return image


def _paste(
    image: ByteArray, thing: ByteArray, mask: ByteArray, place: npt.NDArray[np.float64]
) -> None:
    x, y = np.round(place).astype(int)
    height, width = thing.shape[:2]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, image.shape[1]), min(y + height, image.shape[0])
    if right <= left or bottom <= top:
        return
    inside = np.s_[top - y : bottom - y, left - x : right - x]
    share = np.asarray(mask[inside], np.float32) / 255
    region = image[top:bottom, left:right]
    region[:] = cv2.blendLinear(thing[inside], region.copy(), share, 1 - share)


def _thing(rng: np.random.Generator, size: int) -> tuple[ByteArray, ByteArray]:
    """Draw an object with spots, rings or strokes; returns its pixels and mask."""
    width, height = size, max(6, round(size * rng.uniform(0.7, 1.5)))
    body, line = _colour(rng), _colour(rng)
    thing = np.empty((height, width, 3), np.uint8)
    thing[:] = body
    if rng.random() < 0.4:  # lit from one side
        light = cv2.resize(rng.uniform(0.6, 1.3, (2, 2)).astype(np.float32), (width, height))
        thing = np.clip(thing * light[..., None], 0, 255).astype(np.uint8)
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    regular = rng.random() < 0.6
    radius = size * rng.uniform(0.04, 0.16)
    kind = rng.random()
    for spot in range(min(SPOTS, rows * columns)):
        middle = rng.uniform(0.15, 0.85, 2)
        if regular:
            row, column = divmod(spot, columns)
            middle = np.array([(column + 0.5) / columns, (row + 0.5) / rows])
        _spot(thing, middle * [width, height], radius, line, kind=kind)
    if rng.random() < 0.4:
        ends = rng.uniform(0, 1, (2, 2)) * [width, height]
        _stroke(thing, ends, line, max(1, round(radius * rng.uniform(0.3, 1.0))))
    mask = np.zeros((height, width), np.uint8)
    if rng.random() < 0.5:
        shape = ((width / 2, height / 2), (width - 1.0, height - 1.0), 0.0)
        cv2.ellipse(mask, shape, (255,), -1, cv2.LINE_AA)
        if rng.random() < 0.5:
            cv2.ellipse(thing, shape, line, max(1, size // 12), cv2.LINE_AA)
    else:
        mask[:] = 255
        if rng.random() < 0.5:
            cv2.rectangle(thing, (0, 0), (width - 1, height - 1), line, max(1, size // 12))
    return thing, mask


def _spot(
    thing: ByteArray, middle: npt.NDArray[np.float64], radius: float, colour: Colour, *, kind: float
) -> None:
    x, y = (round(float(value) * 2**FRACTION_BITS) for value in middle)
    reach = max(1, round(radius * 2**FRACTION_BITS))
    thickness = -1 if kind < 0.5 else max(1, round(radius / 3))
    if kind < 0.75:
        cv2.circle(thing, (x, y), reach, colour, thickness, cv2.LINE_AA, FRACTION_BITS)
    else:
        first, last = (x - reach, y - reach), (x + reach, y + reach)
        cv2.rectangle(thing, first, last, colour, thickness, cv2.LINE_AA, FRACTION_BITS)


def _stroke(
    thing: ByteArray, ends: npt.NDArray[np.float64], colour: Colour, thickness: int
) -> None:
    first, last = ((round(float(x)), round(float(y))) for x, y in ends)
    cv2.line(thing, first, last, colour, thickness, cv2.LINE_AA)


def _colour(rng: np.random.Generator) -> Colour:
    """Draw a colour, often a shade of grey or skin."""
    kind = rng.random()
    if kind < 0.35:
        grey = int(rng.integers(0, 256))
        return (grey, grey, grey)
    if kind < 0.6:
        skin = np.array([224, 172, 136]) * rng.uniform(0.3, 1.1) + rng.normal(0, 12, 3)
        red, green, blue = np.clip(skin, 0, 255).astype(int).tolist()
        return (red, green, blue)
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return (red, green, blue)

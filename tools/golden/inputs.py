"""The inputs: one portrait in the public domain, views of it, and drawn faces."""

from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from triton_python_backend.alignment import align
from triton_python_backend.contract import CROP_SIZE

Pixels = npt.NDArray[np.uint8]

PORTRAIT: Final = Path(__file__).with_name("eileen_collins.png")
LANDMARKS: Final = np.array(
    [[204.1, 100.6], [246.8, 103.6], [223.8, 129.2], [202.0, 139.7], [245.7, 142.3]], np.float32
)
"""[5,2] of the portrait's face, image pixels, as SCRFD-500M finds them."""
BOX: Final = np.array([180.1, 60.2, 271.6, 179.7], np.float32)
"""x1 y1 x2 y2 of the portrait's face, image pixels, as SCRFD-500M finds it."""

VIEWS: Final = 8
DRAWN: Final = 8
_NEAR: Final = (4, 5)
"""Rows of the views that hardly differ from the first: blurred, recompressed."""
_SEED: Final = 112


def portrait() -> Pixels:
    """[512,512,3] uint8 RGB."""
    with Image.open(PORTRAIT) as image:
        return np.asarray(image.convert("RGB"))


@cache
def crops() -> Pixels:
    """[16,112,112,3] uint8 RGB: 8 views of the portrait's face, the plain one first, 8 drawings."""
    generator = np.random.default_rng(_SEED)
    drawn = [_draw(generator) for _ in range(DRAWN)]
    return np.stack([*_views(), *drawn])


def near_views() -> tuple[int, ...]:
    """Rows of `crops` that show the first crop with little harm done to it."""
    return _NEAR


def embeddings(width: int) -> npt.NDArray[np.float32]:
    """[8,width] float32 unit vectors, always the same, for scoring heads."""
    vectors = np.random.default_rng(_SEED).normal(size=(8, width)).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def _views() -> list[Pixels]:
    pixels = portrait()
    plain = align(pixels, LANDMARKS[None])[0]
    turned = [_align_turned(pixels, degrees) for degrees in (-12.0, 12.0)]
    packed = cv2.imencode(".jpg", plain, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    small = cv2.resize(plain, (56, 56), interpolation=cv2.INTER_AREA)
    found = [
        plain,
        plain[:, ::-1],
        *turned,
        cv2.GaussianBlur(plain, (3, 3), 0),
        cv2.imdecode(packed, cv2.IMREAD_COLOR),
        (plain * 0.6).astype(np.uint8),
        cv2.resize(small, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR),
    ]
    return [np.ascontiguousarray(view) for view in found]


def _align_turned(pixels: Pixels, degrees: float) -> Pixels:
    centre = LANDMARKS.mean(axis=0)
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = ((LANDMARKS - centre) @ rotation.T + centre).astype(np.float32)
    return np.asarray(align(pixels, turned[None])[0])


def _draw(generator: np.random.Generator) -> Pixels:
    # a face as a child draws it, on the places of ArcFace's template
    y, x = np.mgrid[0:CROP_SIZE, 0:CROP_SIZE].astype(np.float32)

    def spot(cx: float, cy: float, rx: float, ry: float) -> npt.NDArray[np.bool_]:
        return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1)

    image = np.empty((CROP_SIZE, CROP_SIZE, 3), np.float32)
    image[...] = generator.uniform(20, 235, 3)
    skin, hair, eye, mouth = (generator.uniform(20, 235, 3) for _ in range(4))
    image[spot(56, 62, generator.uniform(42, 54), generator.uniform(52, 64))] = hair
    image[spot(56, 70, generator.uniform(34, 42), generator.uniform(44, 52))] = skin
    size = generator.uniform(4, 8)
    for centre in (38.3, 73.5):
        image[spot(centre, 51.6, size * 1.4, size)] = eye
        image[spot(centre, 51.6, size * 0.5, size * 0.5)] = 10
    image[spot(56, 72, generator.uniform(3, 6), generator.uniform(6, 12))] = skin * 0.8
    image[spot(56, 92, generator.uniform(10, 20), generator.uniform(3, 7))] = mouth
    image += generator.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)

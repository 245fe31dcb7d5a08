"""Pictures of answers: annotated ones in a folder, small ones for the contact sheet."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np

from tools.batch.orders import Mark
from tools.batch.types import Photo
from tools.drawing import draw_faces
from triton_python_backend.decoding import Pixels, decode
from triton_python_backend.formats.header import InvalidImageError

THUMBNAIL: Final = 320
"""Longest edge of a small picture, in pixels."""
_QUALITY: Final = 85
_LONGEST_NAME: Final = 120
"""Characters of a part of a path; file systems take 255 bytes."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG, and width and height in pixels of the upright photo that it shows."""

    jpeg: bytes
    width: int
    height: int


def path_in(folder: Path, name: str) -> Path:
    """Return where the picture of an input goes: below the folder, whatever the name is."""
    given = [part for part in PurePosixPath(name).parts if part.strip("/")]
    parts = [part[:_LONGEST_NAME] for part in given if part != ".."] or ["-"]
    if given != parts:
        # another input may have the same remaining path
        parts[-1] = f"{hashlib.sha256(name.encode()).hexdigest()[:8]}-{parts[-1]}"
    path = folder.joinpath(*parts)
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    return path if is_jpeg else path.with_name(f"{path.name}.jpg")


def draw_into(path: Path, pixels: Pixels, marks: Sequence[Mark]) -> None:
    """Write an annotated JPEG; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(_jpeg(draw_faces(pixels, marks)))
    partial.replace(path)


def shrink(pixels: Pixels) -> Thumbnail:
    """Make the small picture of [H,W,3] uint8 RGB."""
    height, width = pixels.shape[:2]
    scale = min(THUMBNAIL / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = pixels if scale == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Thumbnail(_jpeg(np.asarray(small, np.uint8)), width, height)


def pixels_of(photo: Photo) -> Pixels | None:
    """Decode a photo to [H,W,3] uint8 RGB, upright; None for one that cannot be decoded."""
    try:
        return decode(photo.data)
    except InvalidImageError:
        return None


def _jpeg(pixels: Pixels) -> bytes:
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()

"""Photos to send, made of the portrait that comes with the project."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

PORTRAIT: Final = Path(__file__).parents[1] / "tools" / "golden" / "eileen_collins.png"
_COMMENT: Final = b"\xff\xfe"


@cache
def one_face() -> bytes:
    """One face, 800 x 600 pixels, JPEG."""
    large = cv2.resize(cv2.imread(str(PORTRAIT)), (800, 800), interpolation=cv2.INTER_CUBIC)
    return _encode(large[:600])


@cache
def six_faces() -> bytes:
    """Six faces in two rows, 1200 x 800 pixels, JPEG."""
    small = cv2.resize(cv2.imread(str(PORTRAIT)), (400, 400), interpolation=cv2.INTER_AREA)
    return _encode(np.vstack([np.hstack([small] * 3)] * 2))


def with_comment(photo: bytes, number: int) -> bytes:
    """Make a JPEG of the same pixels whose bytes no cache knows."""
    text = f"{number}".encode()
    return photo[:2] + _COMMENT + (len(text) + 2).to_bytes(2) + text + photo[2:]


def _encode(pixels: npt.NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())

"""Photos to send: of the portrait that comes with the project, and those of `make bench`."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

PORTRAIT: Final = Path(__file__).parents[2] / "tools" / "golden" / "eileen_collins.png"
_COMMENT: Final = b"\xff\xfe"
_TWELVE_MEGAPIXELS: Final = {"one": (4000, 3000), "six": (4240, 2935)}


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


def usual_photos(folder: Path, interpreter: Path) -> list[Path]:
    """One face, six faces, and each in a large picture, written to `folder`.

    interpreter: one with insightface, which brings the group photo.
    """
    photos = small_photos(folder, interpreter)
    for name, size in _TWELVE_MEGAPIXELS.items():
        photo = cv2.imread(str(folder / f"{name}.jpg"))
        photos.append(folder / f"{name}-12mp.jpg")
        large = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(photos[-1]), large, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return photos


def small_photos(folder: Path, interpreter: Path) -> list[Path]:
    """One face at 800 x 600 pixels and six at 1280 x 886, written to `folder`."""
    one, six = folder / "one.jpg", folder / "six.jpg"
    one.write_bytes(one_face())
    code = "import insightface; print(insightface.__path__[0])"
    package = subprocess.check_output([interpreter, "-W", "ignore", "-c", code], text=True).strip()
    six.write_bytes((Path(package) / "data" / "images" / "t1.jpg").read_bytes())
    return [one, six]


def _encode(pixels: npt.NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())

"""The photos that `make bench` sends: one face, six faces, and each in a large picture."""

import subprocess
from pathlib import Path
from typing import Final

import cv2

from benchmarks import behaviour

_TWELVE_MEGAPIXELS: Final = {"one": (4000, 3000), "six": (4240, 2935)}


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
    one.write_bytes(behaviour.photo())
    code = "import insightface; print(insightface.__path__[0])"
    package = subprocess.check_output([interpreter, "-W", "ignore", "-c", code], text=True).strip()
    six.write_bytes((Path(package) / "data" / "images" / "t1.jpg").read_bytes())
    return [one, six]

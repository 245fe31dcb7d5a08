"""Photos for the Locust users: read or generated, cached or new."""

import random
from pathlib import Path

import cv2
import numpy as np

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def read_photos(folder: str) -> list[bytes]:
    """Read all photos of a folder; raises FileNotFoundError if there is none."""
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in _SUFFIXES)
    if not paths:
        message = f"no photo in {folder}"
        raise FileNotFoundError(message)
    return [path.read_bytes() for path in paths]


def make_variants(photo: bytes, count: int, *, seed: int = 0) -> list[bytes]:
    """Make JPEGs of a photo: mirrored or not, 320 to 1,280 pixels wide, darker or brighter."""
    chance = random.Random(seed)
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    made = []
    for _ in range(count):
        width = chance.randint(320, 1280)
        size = (width, max(round(pixels.shape[0] * width / pixels.shape[1]), 1))
        image = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        image = cv2.flip(image, 1) if chance.random() < 0.5 else image
        image = cv2.convertScaleAbs(image, alpha=chance.uniform(0.8, 1.2))
        quality = [cv2.IMWRITE_JPEG_QUALITY, chance.randint(70, 95)]
        made.append(cv2.imencode(".jpg", image, quality)[1].tobytes())
    return made


def blank_image() -> bytes:
    """Return a grey PNG without a face."""
    return cv2.imencode(".png", np.full((240, 320, 3), 128, np.uint8))[1].tobytes()


class Photos:
    """Photos in turn; a share of them is new, so that no cache can answer."""

    def __init__(self, photos: list[bytes], *, cold: float) -> None:
        """Use `photos`; a share `cold` (0 to 1) of the returned ones is new."""
        self._photos = photos
        self._cold = cold
        self._next = random.randrange(len(photos))

    def photo(self) -> bytes:
        """Return the next photo; a share `cold` of them is new."""
        photo = self._photos[self._next % len(self._photos)]
        self._next += 1
        return self.unseen(photo) if random.random() < self._cold else photo

    def unseen_photo(self) -> bytes:
        """Return a photo that was never returned before."""
        return self.unseen(self._photos[random.randrange(len(self._photos))])

    @staticmethod
    def unseen(photo: bytes) -> bytes:
        """Change the digest of a file but not its image: decoders ignore bytes after the end."""
        return photo + random.randbytes(16).hex().encode()

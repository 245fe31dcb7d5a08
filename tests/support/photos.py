"""Images for tests: the portrait of this repository, pictures made of it, and pictures of nothing.

Photos of others lie beside the checkout on some machines and never in it: `data_folder` and
`models_folder` find them, and say why a test skips where they are missing.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from tests.support.prerequisites import is_missing

CHECKOUT = Path(__file__).parents[2]
PORTRAIT = CHECKOUT / "tools" / "golden" / "eileen_collins.png"


def portrait() -> Image.Image:
    """512 x 512, one face."""
    return Image.open(PORTRAIT).convert("RGB")


def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def blank(width: int = 320, height: int = 240, form: str = "PNG") -> bytes:
    """Nothing but grey."""
    return encode(Image.new("RGB", (width, height), (128, 128, 128)), form)


def cut_off() -> bytes:
    """The first half of a JPEG."""
    data = encode(portrait(), "JPEG")
    return data[: len(data) // 2]


def crowd(rows: int, columns: int, *, first: int = 60, step: int = 2) -> Image.Image:
    """Portraits of growing size on a grid, each face larger than the one before."""
    face = portrait().crop((128, 0, 320, 288))
    largest = first + step * rows * columns
    cell = int(largest * 1.5)
    sheet = Image.new("RGB", (columns * largest, rows * cell), (120, 120, 120))
    for number in range(rows * columns):
        width = first + step * number
        small = face.resize((width, int(width * 1.5)), Image.Resampling.LANCZOS)
        sheet.paste(small, (number % columns * largest, number // columns * cell))
    return sheet


def models_folder() -> Path:
    """Folder of real weights, or skip."""
    return _beside("AURUM_TEST_MODELS", "models", "det_500m.onnx")


def data_folder() -> Path:
    """Folder of real photos, or skip."""
    return _beside("AURUM_TEST_DATA", "data", "mebeauty_336px.tar")


def group_photo() -> bytes:
    """Insightface's `t1.jpg` with its six faces, from the golden environment, or skip."""
    python = Path(os.environ.get("AURUM_TEST_GOLDEN_PYTHON", CHECKOUT / ".venv-golden/bin/python"))
    found = sorted(
        python.parents[1].glob("lib/python*/site-packages/insightface/data/images/t1.jpg")
    )
    if not found:
        is_missing(f"no insightface beside {python}: `make test` installs it")
    return found[0].read_bytes()


def portraits_in_the_wild(*, every: int, most: int | None = None) -> Iterator[tuple[str, bytes]]:
    """MEBeauty's photos (name, JPEG bytes), every so many."""
    with tarfile.open(data_folder() / "mebeauty_336px.tar") as archive:
        names = (member for member in archive if member.name.endswith(".jpg"))
        for member in islice(names, 0, None if most is None else every * most, every):
            file = archive.extractfile(member)
            if file is not None:
                yield member.name, file.read()


def _beside(variable: str, name: str, expected: str) -> Path:
    named = os.environ.get(variable)
    folder = Path(named) if named else CHECKOUT.parent / "shared" / name
    if not (folder / expected).is_file():
        pytest.skip(f"{expected} is not in {folder} (name another folder in {variable})")
    return folder

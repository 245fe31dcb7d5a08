"""How many faces of known size and place are found in large pictures, by `detail`.

    python -m benchmarks.crowds [--url URL] [--photos TAR …] [--size 5472x3648 …]

Pictures are made of faces: of the portrait in this repository, and of one in each photo of the tar
files. A running gateway is asked for each source's largest face, which is then pasted with its
surroundings, at each size, on a soft background. A face counts as found where a box overlaps its
place by 0.4 (IoU), and as doubled where two overlap it by 0.2; boxes that overlap none are false.
"""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import orjson
import requests
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from tools.quantization.samples import read_photos
from triton_python_backend.geometry import Floats, overlaps

PORTRAIT: Final = Path("tools/golden/eileen_collins.png")
FACES: Final = {24: 60, 32: 60, 64: 40, 200: 10, 900: 1}
"""Width of a face's box in pixels, and how many of it are in a picture."""
SURROUNDINGS: Final = 0.6
"""What is pasted around a box, in edges of it on each side."""
FOUND: Final = 0.4
DOUBLED: Final = 0.2
_TRIES: Final = 2000
_PATCH: Final = 96


@dataclass(frozen=True, slots=True)
class Source:
    """A face with its surroundings; box: in pixels of it."""

    image: Image.Image
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """What was found in one picture."""

    picture: str
    megapixels: float
    sources: int
    detail: str
    seconds: float
    faces: int
    found: dict[int, float]
    """Share by width of the face."""
    doubled: int
    false: int


def main(
    url: Annotated[str, typer.Option(help="Of the gateway.")] = "http://127.0.0.1:8080",
    photos: Annotated[list[Path] | None, typer.Option(help="Tar files of portraits.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT of a picture.")] = None,
    most: Annotated[int, typer.Option(help="Photos taken of each tar file.")] = 60,
    out: Annotated[Path, typer.Option(help="JSON.")] = Path("benchmarks/results/crowds.json"),
) -> None:
    """Measure and write a table."""
    kinds = {"portrait": [PORTRAIT.read_bytes()]}
    for tar in photos or []:
        kinds[tar.stem] = list(read_photos(tar, most=most))
    rows: list[Row] = []
    for name, data in kinds.items():
        sources = [found for each in data if (found := _source(url, each)) is not None]
        for text in size or ["5472x3648", "10000x1000"]:
            width, height = map(int, text.split("x"))
            sheet, boxes, widths = _paste(sources, width, height)
            picture = _encode(sheet)
            for detail in ("standard", "high"):
                answer, seconds = _ask(url, picture, detail)
                faces = np.array([face["box"] for face in answer["faces"]], np.float32)
                rows.append(
                    Row(
                        picture=f"{name} {text}",
                        megapixels=round(width * height / 1e6, 1),
                        sources=len(sources),
                        detail=detail,
                        seconds=round(seconds, 2),
                        faces=len(faces),
                        **_judge(faces.reshape(-1, 4), boxes, widths),
                    )
                )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(orjson.dumps([asdict(row) for row in rows], option=_JSON))
    _show(rows)


_JSON: Final = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS


def _ask(url: str, picture: bytes, detail: str) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    query: dict[str, str | int] = {"detail": detail, "max_faces": 512}
    answer = requests.post(
        f"{url}/api/ml/detect",
        params=query,
        data=picture,
        headers={"Content-Type": "image/jpeg"},
        timeout=300,
    )
    seconds = time.monotonic() - started
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body, seconds


def _source(url: str, data: bytes) -> Source | None:
    """Cut out the largest face of a photo, if it shows exactly one that is acceptable."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    faces = _ask(url, _encode(image), "standard")[0]["faces"]
    if len(faces) != 1 or faces[0]["confidence"] < 0.75:
        return None
    left, top, right, bottom = faces[0]["box"]
    wide, high = (right - left) * SURROUNDINGS, (bottom - top) * SURROUNDINGS
    cut = (
        int(max(left - wide, 0)),
        int(max(top - high, 0)),
        int(min(right + wide, image.width)),
        int(min(bottom + high, image.height)),
    )
    box = (left - cut[0], top - cut[1], right - cut[0], bottom - cut[1])
    return Source(image.crop(cut), box)


def _paste(
    sources: Sequence[Source], width: int, height: int
) -> tuple[Image.Image, Floats, list[int]]:
    random = np.random.default_rng(3)
    coarse = random.integers(
        60, 200, (height // _PATCH + 2, width // _PATCH + 2, 3), dtype=np.uint8
    )
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    sheet = Image.fromarray(np.asarray(soft, dtype=np.uint8))
    taken = np.zeros((0, 4), np.float32)
    boxes, widths = [], []
    turn = cycle(sources)
    for wanted, count in sorted(FACES.items(), reverse=True):
        for source in islice(turn, count):
            scale = wanted / (source.box[2] - source.box[0])
            size = [max(round(edge * scale), 1) for edge in source.image.size]
            place = _free_place(random, taken, size, (width, height))
            if place is None:
                continue
            sheet.paste(source.image.resize((size[0], size[1]), Image.Resampling.LANCZOS), place)
            corner = np.tile(np.array(place, np.float32), 2)
            taken = np.concatenate([taken, [corner + np.array([0, 0, *size], np.float32)]])
            boxes.append(corner + np.array(source.box, np.float32) * scale)
            widths.append(wanted)
    return sheet, np.stack(boxes).astype(np.float32), widths


def _free_place(
    random: np.random.Generator, taken: Floats, size: Sequence[int], edges: tuple[int, int]
) -> tuple[int, int] | None:
    if size[0] >= edges[0] or size[1] >= edges[1]:
        return None
    for _ in range(_TRIES):
        x, y = (int(random.integers(0, edge - own)) for edge, own in zip(edges, size, strict=True))
        box = np.array([[x, y, x + size[0], y + size[1]]], np.float32)
        if not overlaps(box, taken).any():
            return x, y
    return None


def _judge(faces: Floats, boxes: Floats, widths: Sequence[int]) -> dict[str, Any]:
    shared: npt.NDArray[Any] = overlaps(boxes, faces)
    hit = shared.max(axis=1, initial=0) >= FOUND
    wide = np.array(widths)
    return {
        "found": {each: round(float(hit[wide == each].mean()), 4) for each in sorted(set(widths))},
        "doubled": int(((shared >= DOUBLED).sum(axis=1) > 1).sum()),
        "false": int((shared.max(axis=0, initial=0) < DOUBLED).sum()),
    }


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _show(rows: Sequence[Row]) -> None:
    table = Table(*_head())
    for row in rows:
        shares = [f"{row.found.get(each, float('nan')):.1%}" for each in FACES]
        table.add_row(
            row.picture,
            f"{row.megapixels:g}",
            row.detail,
            *shares,
            str(row.doubled),
            str(row.false),
            f"{row.seconds:.1f}",
        )
    Console().print(table)


def _head() -> Iterator[str]:
    yield from ("picture", "megapixels", "detail")
    yield from (f"{width} px" for width in FACES)
    yield from ("doubled", "false", "seconds")


if __name__ == "__main__":
    typer.run(main)

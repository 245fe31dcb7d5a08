"""Measure a running service on a stack of its own: `make bench`.

    python -m benchmarks ../shared/models [PHOTO ...]

First compares the service with insightface in-process and the same networks: one face at 800 x 600
pixels, six faces (the group photo of the insightface package), and both as JPEGs of 12 megapixels,
or the given photos. Then measures the gateway by itself (`behaviour.py`). Writes JSON and a picture
to `benchmarks/results/`.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import cv2
import typer

from benchmarks import behaviour, picture
from benchmarks.compare import Plan, Reference, compare, report
from benchmarks.served import CHECKOUT, DETECTOR, EMBEDDER, served

RESULTS = CHECKOUT / "benchmarks" / "results"
_TWELVE_MEGAPIXELS = {"one": (4000, 3000), "six": (4240, 2935)}


def usual_photos(folder: Path, interpreter: Path) -> list[Path]:
    """Write four photos to `folder`: one face, six faces, and a large picture of each."""
    one, six = folder / "one.jpg", folder / "six.jpg"
    one.write_bytes(behaviour.photo())
    code = "import insightface; print(insightface.__path__[0])"
    package = subprocess.check_output([interpreter, "-W", "ignore", "-c", code], text=True).strip()
    six.write_bytes((Path(package) / "data" / "images" / "t1.jpg").read_bytes())
    photos = [one, six]
    for name, size in _TWELVE_MEGAPIXELS.items():
        photo = cv2.imread(str(folder / f"{name}.jpg"))
        photos.append(folder / f"{name}-12mp.jpg")
        large = cv2.resize(photo, size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(photos[-1]), large, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return photos


def main(
    models: Annotated[Path, typer.Argument(exists=True, help="Folder of the networks.")],
    photos: Annotated[list[Path] | None, typer.Argument(exists=True)] = None,
    insightface_python: Annotated[Path, typer.Option(exists=True)] = (
        CHECKOUT / ".venv-golden" / "bin" / "python"
    ),
    rounds: int = Plan.rounds,
    calls: int = Plan.calls,
    seconds: Annotated[float, typer.Option(help="Duration of each overload.")] = 60.0,
) -> None:
    """Measure everything and write the results to `benchmarks/results/`."""
    plan = Plan(rounds, calls)
    reference = Reference(insightface_python, models / DETECTOR, models / EMBEDDER)
    with tempfile.TemporaryDirectory() as folder:
        chosen = photos or usual_photos(Path(folder), insightface_python)
        with served(models, AURUM_CACHE="off", AURUM_LOG_LEVEL="warning") as stack:
            found = compare(chosen, plan, url=stack.url, library=reference)
    report(found, plan, RESULTS / "compare.json")
    picture.draw(found, RESULTS / "compare.svg")
    behaviour.main(models, seconds=seconds)


if __name__ == "__main__":
    typer.run(main)

"""Everything that is measured of a running service, on a stack of its own: `make bench`.

    python -m benchmarks ../shared/models [PHOTO ...]

Beside insightface in-process with the same networks: one face at 800 x 600 pixels, six faces (the
group photo that comes with insightface) and the same as a JPEG of 12 megapixels, or the photos
given. Then what the gateway does by itself (`behaviour.py`). Writes `benchmarks/results/`.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import cv2
import typer

from benchmarks import behaviour
from benchmarks.compare import Plan, Reference, compare, report
from benchmarks.served import CHECKOUT, DETECTOR, EMBEDDER, served

RESULTS = CHECKOUT / "benchmarks" / "results"
_TWELVE_MEGAPIXELS = (4240, 2935)


def usual_photos(folder: Path, interpreter: Path) -> list[Path]:
    """One face, six faces, and the six in a large picture, written to `folder`."""
    one, six, large = (folder / f"{name}.jpg" for name in ("one", "six", "six-12mp"))
    one.write_bytes(behaviour.photo())
    code = "import insightface; print(insightface.__path__[0])"
    package = subprocess.check_output([interpreter, "-W", "ignore", "-c", code], text=True).strip()
    six.write_bytes((Path(package) / "data" / "images" / "t1.jpg").read_bytes())
    photo = cv2.resize(cv2.imread(str(six)), _TWELVE_MEGAPIXELS, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(large), photo, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return [one, six, large]


def main(
    models: Annotated[Path, typer.Argument(exists=True, help="Folder of the networks.")],
    photos: Annotated[list[Path] | None, typer.Argument(exists=True)] = None,
    insightface_python: Annotated[Path, typer.Option(exists=True)] = (
        CHECKOUT / ".venv-golden" / "bin" / "python"
    ),
    rounds: int = Plan.rounds,
    calls: int = Plan.calls,
    seconds: Annotated[float, typer.Option(help="Of the overload.")] = 60.0,
) -> None:
    """Measure everything and write it to `benchmarks/results/`."""
    plan = Plan(rounds, calls)
    reference = Reference(insightface_python, models / DETECTOR, models / EMBEDDER)
    with tempfile.TemporaryDirectory() as folder:
        chosen = photos or usual_photos(Path(folder), insightface_python)
        with served(models, AURUM_CACHE="off", AURUM_LOG_LEVEL="warning") as stack:
            found = compare(chosen, plan, url=stack.url, library=reference)
    report(found, plan, RESULTS / "compare.json")
    behaviour.main(models, seconds=seconds)


if __name__ == "__main__":
    typer.run(main)

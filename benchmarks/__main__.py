"""Measure a running service on a stack of its own: `make bench`.

    python -m benchmarks ../shared/models [PHOTO ...]

First compares the service with insightface in-process and the same networks: one face at 800 x 600
pixels, six faces (the group photo of the insightface package), and both as JPEGs of 12 megapixels,
or the given photos. Then measures the gateway by itself (`behaviour.py`), then beside other
services if their checkouts are given (`peers/`). Writes JSON, tables and a picture to
`benchmarks/results/`.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import behaviour
from benchmarks.compare import Plan, Reference, compare, report
from benchmarks.peers import run as peers
from benchmarks.peers.measure import Plan as PeersPlan
from benchmarks.support import picture
from benchmarks.support.photos import small_photos, usual_photos
from benchmarks.support.served import CHECKOUT, DETECTOR, EMBEDDER, served

RESULTS = CHECKOUT / "benchmarks" / "results"


def main(
    models: Annotated[Path, typer.Argument(exists=True, help="Folder of the networks.")],
    photos: Annotated[list[Path] | None, typer.Argument(exists=True)] = None,
    insightface_python: Annotated[Path, typer.Option(exists=True)] = (
        CHECKOUT / ".venv-golden" / "bin" / "python"
    ),
    rounds: int = Plan.rounds,
    calls: int = Plan.calls,
    seconds: Annotated[float, typer.Option(help="Duration of each overload.")] = 60.0,
    checkouts: Annotated[
        Path | None, typer.Option(exists=True, help="Folder of the peers' checkouts.")
    ] = None,
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
    with tempfile.TemporaryDirectory() as folder:
        small = small_photos(Path(folder), insightface_python)
        out = RESULTS / "peers.json"
        peers.measure(models, small, PeersPlan(), checkouts=checkouts, out=out)


if __name__ == "__main__":
    typer.run(main)

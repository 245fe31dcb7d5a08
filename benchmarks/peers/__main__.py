"""Aurum beside services of others: same machine, networks and photos, HTTP, alternated rounds.

    python -m benchmarks.peers ../shared/models --checkouts FOLDER

FOLDER holds a checkout of each peer's repository under its own name:

    insightface/        github.com/deepinsight/insightface      (its folder server/)
    immich/             github.com/immich-app/immich            (its folder machine-learning/)
    InsightFace-REST/   github.com/SthPhoenix/InsightFace-REST  (needs Debian's libturbojpeg0)

Each gets an environment of its own in the cache, made by pip once, and the networks where it looks
for them (one adapter a peer says how). In each round every service is started, rests, is loaded
and stopped, and nothing else runs meanwhile; the order changes from round to round. What cannot be
installed or does not answer stands in the table with its reason. Every service runs as its image
starts it; what it then does with a photo (the detector's canvas, say) stands in the table, too.
Writes `benchmarks/results/peers.json` and `peers.md`.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.peers.measure import Plan
from benchmarks.peers.run import measure
from benchmarks.support.photos import small_photos
from benchmarks.support.served import CHECKOUT


def main(
    models: Annotated[Path, typer.Argument(exists=True, help="Folder of the networks.")],
    photos: Annotated[
        list[Path] | None, typer.Argument(exists=True, help="One face and six by default.")
    ] = None,
    checkouts: Annotated[
        Path | None,
        typer.Option(exists=True, help="Folder of the peers' checkouts; CACHE/checkouts."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the peers' environments; AURUM_HOME/peers.")
    ] = None,
    insightface_python: Annotated[Path, typer.Option(exists=True)] = (
        CHECKOUT / ".venv-golden" / "bin" / "python"
    ),
    rounds: int = Plan.rounds,
    seconds: Annotated[float, typer.Option(help="Of each load.")] = Plan.seconds,
    out: Path = CHECKOUT / "benchmarks" / "results" / "peers.json",
) -> None:
    """Measure Aurum and its peers."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = photos or small_photos(Path(folder), insightface_python)
        measure(models, chosen, Plan(rounds, seconds), checkouts=checkouts, cache=cache, out=out)


if __name__ == "__main__":
    typer.run(main)

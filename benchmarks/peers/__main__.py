"""Aurum beside services of others: same machine, networks and photos, HTTP, alternated rounds.

    python -m benchmarks.peers ../shared/models --checkouts FOLDER

FOLDER holds a checkout of each peer's repository under its own name:

    insightface/        github.com/deepinsight/insightface      (its folder server/)
    immich/             github.com/immich-app/immich            (its folder machine-learning/)
    InsightFace-REST/   github.com/SthPhoenix/InsightFace-REST  (needs Debian's libturbojpeg0)

Each gets an environment of its own in the cache, made by pip once, and the networks where it looks
for them (one adapter a peer says how). In each round every service is started, rests, is loaded
and stopped, and nothing else runs meanwhile; the order changes from round to round. What cannot be
installed or does not answer stands in the table with its reason. Writes
`benchmarks/results/peers.json` and `peers.md`.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks.peers.aurum import Aurum
from benchmarks.peers.immich import Immich
from benchmarks.peers.insightface_rest import InsightFaceRest
from benchmarks.peers.insightface_server import InsightFaceServer
from benchmarks.peers.install import install
from benchmarks.peers.measure import Outcome, Plan, compare
from benchmarks.peers.peer import Peer
from benchmarks.peers.report import content, markdown, write
from benchmarks.peers.service import Networks, NotRunError, Service
from benchmarks.photos import small_photos
from benchmarks.served import CHECKOUT, DETECTOR, EMBEDDER, prepared
from gateway.settings import Settings

PEERS: Final[tuple[type[Peer], ...]] = (InsightFaceServer, Immich, InsightFaceRest)
_GOLDEN: Final = CHECKOUT / ".venv-golden" / "bin" / "python"


def measure(
    models: Path,
    checkouts: Path | None,
    photos: list[Path],
    plan: Plan,
    *,
    cache: Path,
    out: Path,
) -> None:
    """Install what can be installed, measure it beside Aurum, write and print the tables."""
    console = Console()
    peers, missing = installed(models, checkouts, cache, console)
    if not peers:
        console.print("peers: skipped, none is there (--checkouts FOLDER names their checkouts)")
        for name, outcome in missing.items():
            console.print(f"  {name}: {outcome.not_run}", markup=False)
        return
    images = {photo.name: photo.read_bytes() for photo in photos}
    # no peer refuses a request that would wait for long, or answers one photo from memory
    settings = {"AURUM_CACHE": "off", "AURUM_MAX_WAIT_SECONDS": "9", "AURUM_LOG_LEVEL": "warning"}
    with prepared(models, **settings) as stack:
        services: list[Service] = [Aurum(stack), *peers]
        outcomes = compare(services, images, plan, logs=cache, console=console)
    found = content({**outcomes, **missing}, services, list(images), plan)
    write(found, out)
    console.print(markdown(found), markup=False, soft_wrap=True)


def installed(
    models: Path, checkouts: Path | None, cache: Path, console: Console
) -> tuple[list[Peer], dict[str, Outcome]]:
    """The peers that can be started, and the others with their reasons."""
    networks = Networks(models / DETECTOR, models / EMBEDDER)
    ready: list[Peer] = []
    missing: dict[str, Outcome] = {}
    for kind in PEERS:
        source = (checkouts or cache / "checkouts") / kind.checkout
        peer = kind(source, cache / kind.checkout)
        try:
            install(peer, networks, console)
        except NotRunError as error:
            missing[kind.name] = Outcome({}, {}, str(error))
        else:
            ready.append(peer)
    return ready, missing


def default_cache() -> Path:
    """The folder `peers` of `AURUM_HOME`."""
    return Settings().home.expanduser().resolve() / "peers"


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
    insightface_python: Annotated[Path, typer.Option(exists=True)] = _GOLDEN,
    rounds: int = Plan.rounds,
    seconds: Annotated[float, typer.Option(help="Of each load.")] = Plan.seconds,
    out: Path = CHECKOUT / "benchmarks" / "results" / "peers.json",
) -> None:
    """Measure Aurum and its peers."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = photos or small_photos(Path(folder), insightface_python)
        plan = Plan(rounds, seconds)
        measure(models, checkouts, chosen, plan, cache=cache or default_cache(), out=out)


if __name__ == "__main__":
    typer.run(main)

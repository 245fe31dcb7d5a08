"""Install what can be installed, measure it beside Aurum, write the tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

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
from benchmarks.support.served import DETECTOR, EMBEDDER, prepared
from gateway.settings import Settings

PEERS: Final[tuple[type[Peer], ...]] = (InsightFaceServer, Immich, InsightFaceRest)
AURUM: Final[Mapping[str, str]] = {
    "AURUM_CACHE": "off",
    "AURUM_MAX_WAIT_SECONDS": "9",
    "AURUM_LOG_LEVEL": "warning",
}
"""Settings of Aurum: no peer answers from memory or refuses a request that would wait for long."""


def measure(
    models: Path,
    photos: Sequence[Path],
    plan: Plan,
    *,
    checkouts: Path | None = None,
    cache: Path | None = None,
    out: Path,
) -> None:
    """Measure all that can be run; without any peer, say so and measure nothing.

    checkouts, cache: folders of the peers' checkouts and environments, `checkouts` below the
    cache and `peers` below `AURUM_HOME` by default.
    """
    console = Console(soft_wrap=True)
    cache = cache or Settings().home.expanduser().resolve() / "peers"
    peers, missing = installed(models, checkouts or cache / "checkouts", cache, console)
    if not peers:
        console.print("peers: skipped, none can be run (--checkouts FOLDER names their checkouts)")
        for name, outcome in missing.items():
            console.print(f"  {name}: {outcome.not_run}", markup=False)
        return
    images = {photo.name: photo.read_bytes() for photo in photos}
    with prepared(models, **AURUM) as stack:
        services: list[Service] = [Aurum(stack), *peers]
        outcomes = compare(services, images, plan, logs=cache, console=console)
    found = content({**outcomes, **missing}, services, list(images), plan)
    write(found, out)
    console.print(markdown(found), markup=False)


def installed(
    models: Path, checkouts: Path, cache: Path, console: Console
) -> tuple[list[Peer], dict[str, Outcome]]:
    """The peers that can be started, and the others with their reasons."""
    networks = Networks(models / DETECTOR, models / EMBEDDER)
    ready: list[Peer] = []
    missing: dict[str, Outcome] = {}
    for kind in PEERS:
        peer = kind(checkouts / kind.checkout, cache / kind.checkout)
        try:
            install(peer, networks, console)
        except NotRunError as error:
            missing[kind.name] = Outcome({}, {}, str(error))
        else:
            ready.append(peer)
    return ready, missing

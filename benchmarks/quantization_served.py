"""Compare the throughput of the whole service with quantised and with float networks.

    python -m benchmarks.quantization_served ../shared/models PHOTO ... \
        --calibration-photos ../shared/data/mebeauty_336px.tar

Three stacks run side by side: float networks, the embedding in 8 bits, both in 8 bits. Each round
loads them one after the other, in rotating order; ratios are taken round by round.
"""

import json
import os
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.quantization import machine
from benchmarks.support.load import closed, run, saturated
from benchmarks.support.served import CHECKOUT, EMBEDDER, served

_CALLERS: Final = 8
_QUIET: Final = {"AURUM_CACHE": "off", "AURUM_LOG_LEVEL": "warning"}


def main(
    models: Annotated[Path, typer.Argument(exists=True, help="Folder of the networks.")],
    photos: Annotated[list[Path], typer.Argument(exists=True, help="Photos to send.")],
    calibration_photos: Annotated[Path, typer.Option(exists=True)],
    rounds: Annotated[int, typer.Option(help="Rounds of each photo.")] = 7,
    seconds: Annotated[float, typer.Option(help="Duration of each stack in each round.")] = 6.0,
    out: Path = CHECKOUT / "benchmarks" / "results" / "quantization-served.json",
) -> None:
    """Measure, write the JSON and print a table."""
    photos_of = ("--calibration-photos", calibration_photos.resolve())
    kinds: dict[str, tuple[object, ...]] = {
        "float": (),
        "embedding in int8": ("--int8", "--embedding", (models / EMBEDDER).resolve(), *photos_of),
        "both in int8": ("--int8", *photos_of),
    }
    with ExitStack() as running:
        urls = {
            kind: running.enter_context(served(models, lighter=words, **_QUIET)).url
            for kind, words in kinds.items()
        }
        found = {photo.name: measure(urls, photo, rounds, seconds) for photo in photos}
    load = [round(value, 1) for value in os.getloadavg()]
    settings = {"rounds": rounds, "seconds": seconds, "callers": _CALLERS}
    report = {
        "machine": machine() | {"threads": os.cpu_count()},
        "settings": settings,
        "load_average_at_the_end": load,
        "photos": found,
    }
    out.write_text(json.dumps(report, indent=2) + "\n")
    table = Table("photo", "networks", "photos a second", "ratio to float")
    for photo, kinds_of in found.items():
        for kind, each in kinds_of.items():
            low, high = min(each["ratios"]), max(each["ratios"])
            beside = f"{each['ratio']:.2f} ({low:.2f} to {high:.2f})"
            table.add_row(photo, kind, f"{each['median_per_second']:.1f}", beside)
    Console().print(table)


def measure(
    urls: dict[str, str], photo: Path, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Load each stack in turn; return photos a second, and ratios to the first stack."""
    data, kinds = photo.read_bytes(), list(urls)
    routes = {kind: f"{url}/api/ml/embed" for kind, url in urls.items()}
    for route in routes.values():
        run(closed(route, data, callers=_CALLERS, count=40))
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in track(range(rounds), photo.name):
        first = turn % len(kinds)
        for kind in kinds[first:] + kinds[:first]:
            rates[kind].append(
                run(saturated(routes[kind], data, callers=_CALLERS, seconds=seconds))
            )
    ratios = {
        kind: [mine / base for mine, base in zip(each, rates[kinds[0]], strict=True)]
        for kind, each in rates.items()
    }
    return {
        kind: {
            "median_per_second": statistics.median(rates[kind]),
            "ratio": statistics.median(ratios[kind]),
            "ratios": ratios[kind],
        }
        for kind in kinds
    }


if __name__ == "__main__":
    typer.run(main)

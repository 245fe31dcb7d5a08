"""What Aurum costs a month in four clouds: `python -m benchmarks.cloud_costs`.

It writes docs/clouds.md. Sizes follow from measured capacity, prices from
`benchmarks/cloud_prices.json`, with their date and source. Nothing is fetched.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from benchmarks.scaling.policies import CPU_TARGET, LEAST
from benchmarks.support.served import CHECKOUT

PRICES: Final = CHECKOUT / "benchmarks" / "cloud_prices.json"
DOCUMENT: Final = CHECKOUT / "docs" / "clouds.md"
_MEASURED: Final = CHECKOUT / "benchmarks" / "results" / "compare.json"
_SHARED_NODES: Final = 1
"""Nodes for nginx, Prometheus and the like."""
_ANSWER_KB: Final = 4.0
"""An answer with one embedding, headers and TLS included; rounded up."""
_FACE_KB: Final = 3.5
"""Disk of a face with 512 numbers in the vector store: docs/capacity.md."""
_CROP_KB: Final = 10.0
"""Assumed: a kept crop of a face."""
_POSTGRESQL_GB: Final = 50
_MONTH_SECONDS: Final = 730 * 3600
_SIZE_COLUMNS: Final = ("size", "photos a minute", "enrolled faces", "replicas", "vector nodes")
_PAGE: Final = """# What it costs in a cloud

<!-- Written by `python -m benchmarks.cloud_costs`; do not edit. -->

Monthly cost in {currency}, {hours_per_month} hours, of installations that nobody has started yet.

**Prices: {source}** (stated on {stated_on}). They are in `benchmarks/cloud_prices.json`: change
them there and run the command above.

## Sizes

{sizes}

- A replica answers {capacity} one-face photos a second on two cores
  ([measured](capacity.md#throughput-and-latency)) and is used to {use} %, the
  [aim of autoscaling](scaling.md). Nothing is deducted for answers from the cache.
- A node has four hyperthreads, which count as two cores, and holds one replica. One node more is
  for whatever else the cluster runs.
- The load is that of the busiest minute. Half of it is the mean of the month (assumed), for which
  traffic is counted, 4 kB an answer. Photos come in, which costs nothing.
- A face takes 3.5 kB of the vector store ([measured](capacity.md#collections)) and its crop 10 kB
  of the object store (assumed). Each vector node holds all faces, with twice the space. A million
  faces use 4 GiB of memory there (measured), mapped files included: ten million are more than a
  node of 32 GiB has, and searches then read from its disk, which was not measured.
- Whether all of the large load can be searches depends on the disk of PostgreSQL: all gateways
  together write a
  [bounded](scaling.md#what-bounds-it) number of audit lines a second.

## Monthly cost

{costs}

## Services and prices

{services}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """What is asked of an installation.

    per_minute: one-face photos a minute at the busiest time; half of it is the mean of the month.
    faces: enrolled ones. vectors: nodes of the vector store.
    """

    name: str
    per_minute: int
    faces: int
    vectors: int

    def replicas(self, capacity: float) -> int:
        """Replicas of two cores, each used to 60 %; capacity: photos a second of one."""
        return max(LEAST, math.ceil(self.per_minute / 60 / (capacity * CPU_TARGET)))


SIZES: Final = (
    Size("small", 1_000, 100_000, 1),
    Size("medium", 10_000, 1_000_000, 2),
    Size("large", 100_000, 10_000_000, 4),
)


def measured_capacity() -> float:
    """Return one-face photos a second of a replica of two cores, as measured."""
    found = json.loads(_MEASURED.read_text())["results"]["one.jpg"]["throughput_aurum"]["median"]
    return float(found)


def monthly(
    cloud: Mapping[str, Any], size: Size, capacity: float, hours: float
) -> dict[str, float]:
    """Return the price of each part for a month, in the currency of the prices."""
    nodes = size.replicas(capacity) + _SHARED_NODES
    crops_gb = size.faces * _CROP_KB / 1e6
    faces_gb = size.faces * _FACE_KB / 1e6
    # snapshots of the vectors are kept once in the object store
    objects_gb = crops_gb + faces_gb
    out_gb = size.per_minute / 60 / 2 * _MONTH_SECONDS * _ANSWER_KB / 1e6
    traffic = cloud["traffic"]
    return {
        "cluster": cloud["cluster"]["per_hour"] * hours,
        "nodes": cloud["nodes"]["per_hour"] * hours * nodes,
        "PostgreSQL": cloud["PostgreSQL"]["per_hour"] * hours
        + cloud["disk"]["per_gb"] * _POSTGRESQL_GB,
        "Redis": cloud["Redis"]["per_hour"] * hours,
        "vectors": (cloud["vectors"]["per_hour"] * hours + cloud["disk"]["per_gb"] * 2 * faces_gb)
        * size.vectors,
        "objects": cloud["objects"]["per_gb"] * objects_gb,
        "balancer": cloud["balancer"]["per_hour"] * hours,
        "traffic": max(0.0, out_gb - traffic["free_gb"]) * traffic["per_gb"],
    }


def page(prices: Mapping[str, Any], capacity: float) -> str:
    """Return docs/clouds.md."""
    clouds, hours = prices["clouds"], prices["hours_per_month"]
    costs = []
    for size in SIZES:
        for name, cloud in clouds.items():
            parts = monthly(cloud, size, capacity, hours)
            figures = [*parts.values(), sum(parts.values())]
            costs.append([size.name, name, *(f"{each:,.0f}" for each in figures)])
    columns = list(monthly(next(iter(clouds.values())), SIZES[0], capacity, hours))
    return _PAGE.format(
        **{name: prices[name] for name in ("currency", "hours_per_month", "source", "stated_on")},
        sizes=_table(_SIZE_COLUMNS, [_row(size, capacity) for size in SIZES]),
        capacity=f"{capacity:.0f}",
        use=f"{100 * CPU_TARGET:.0f}",
        costs=_table(["size", "cloud", *columns, "total"], costs),
        services=_table(["part", *clouds], _services(clouds)),
    )


def _row(size: Size, capacity: float) -> list[str]:
    asked = [size.name, f"{size.per_minute:,}", f"{size.faces:,}"]
    return [*asked, str(size.replicas(capacity)), str(size.vectors)]


def _services(clouds: Mapping[str, Mapping[str, Any]]) -> Iterable[list[str]]:
    yield ["region", *(cloud["region"] for cloud in clouds.values())]
    for part in next(iter(clouds.values())):
        if part != "region":
            yield [part, *(_priced(cloud[part]) for cloud in clouds.values())]


def _priced(service: Mapping[str, Any]) -> str:
    unit = "hour" if "per_hour" in service else "GB"
    price = service["per_hour"] if unit == "hour" else service["per_gb"]
    return f"{service['service']}: {price:g} per {unit}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(document: Path = DOCUMENT) -> None:
    """Write the page."""
    document.write_text(page(json.loads(PRICES.read_text()), measured_capacity()))


if __name__ == "__main__":
    typer.run(main)

"""Simulate 1 to 100 replicas: `python -m benchmarks.scaling`.

Reads `benchmarks/results/scaling_samples.json` (`python -m benchmarks.scaling.collect` measures it
anew) and writes the tables and the picture of `docs/scaling.md`. It uses one core for minutes; the
same samples give the same figures.
"""

import math
from dataclasses import replace
from typing import Annotated, Final

import typer
from rich.progress import track

from benchmarks.scaling import picture, report
from benchmarks.scaling.engine import Balancing
from benchmarks.scaling.law import Law, fit
from benchmarks.scaling.loads import daily, flash_crowd, spike, steady
from benchmarks.scaling.policies import (
    CPU_TARGET,
    SYNC_SECONDS,
    AnswerTime,
    Autoscaler,
    Cpu,
    Fixed,
    Forecast,
    Policy,
)
from benchmarks.scaling.runs import Outcome, Shared, most, offered
from benchmarks.scaling.samples import Samples, published_service, read
from benchmarks.support.served import CHECKOUT

GOAL: Final = 10_000 / 60
"""Requests a second that have to be answered within 200 ms."""
NODE_SECONDS: Final = 60.0
"""Assumed: from the order of a replica until its machine runs and has the images."""
COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 100)
_LOADS: Final = {
    "day": (daily(GOAL), 3),
    "spike": (spike(50.0, 200.0), 2),
    "flash crowd": (flash_crowd(30.0, 400.0), 2),
}
"""Loads and the replicas at their begin."""
_VECTOR_CORES: Final = 16
_SEARCH_SECONDS: Final = 0.0055
"""Median among 100,000 faces: benchmarks/results/vectors.json."""
_BALANCING: Final[tuple[Balancing, ...]] = ("round_robin", "least_conn")


def scaled(samples: Samples) -> dict[str, dict[str, Outcome]]:
    """Run each policy under each load."""
    start = NODE_SECONDS + samples.start
    ahead = start + 2 * SYNC_SECONDS
    runs: dict[str, dict[str, Outcome]] = {}
    for name, (load, begin) in track(_LOADS.items(), "policies"):
        policies: dict[str, Policy] = {
            "none": Fixed(),
            "CPU": Cpu(),
            "answer time": AnswerTime(),
            picture.NOT_DRAWN: AnswerTime(most_times=math.inf),
            "answer time + forecast": Forecast(capacity=samples.capacity, ahead_seconds=ahead),
        }
        runs[name] = {
            policy: offered(
                load,
                samples.service,
                replicas=begin,
                scaler=Autoscaler(wishes),
                start_seconds=start,
            )
            for policy, wishes in policies.items()
        }
    return runs


def sized(samples: Samples) -> list[tuple[int, float, Outcome]]:
    """Give each number of replicas the share of its capacity that autoscaling aims at."""
    found = []
    for count in track(COUNTS, "sizes"):
        rate = CPU_TARGET * samples.capacity * count
        load = steady(rate, max(10.0, 20_000 / rate))
        found.append((count, rate, offered(load, samples.service, replicas=count)))
    return found


def at_goal(samples: Samples) -> list[tuple[int, dict[str, Outcome]]]:
    """Send 10,000 requests a minute to few replicas, balanced both ways."""
    load = steady(GOAL, 180.0)
    return [
        (
            count,
            {
                kind: offered(load, samples.service, replicas=count, balancing=kind)
                for kind in _BALANCING
            },
        )
        for count in track(range(2, 7), "10,000 a minute")
    ]


def laws(samples: Samples) -> dict[str, tuple[Law, list[tuple[int, float]]]]:
    """Find what replicas add until the shared stores are busy."""
    kinds = {
        "embed": Shared(redis=samples.redis),
        "search": Shared(samples.redis, _SEARCH_SECONDS / _VECTOR_CORES, audit=True),
    }
    found = {}
    for name, shared in kinds.items():
        points = [(count, most(count, samples, shared)) for count in track(COUNTS, name)]
        found[name] = fit(*zip(*points, strict=True)), points
    return found


def main(
    collected: Annotated[
        bool, typer.Option(help="Service times of the samples, not of the published runs.")
    ] = False,
) -> None:
    """Simulate and write tables and picture."""
    samples = read()
    if not collected:
        samples = replace(samples, service=published_service())
    runs, found = scaled(samples), laws(samples)
    tables = {
        "goal": report.of_goal(at_goal(samples)),
        "sizes": report.of_sizes(sized(samples)),
        "policies": report.of_policies(runs),
        "laws": report.of_laws(found),
    }
    for table in tables.values():
        print(table)
    picture.draw(runs, found, CHECKOUT / "docs" / "images" / "scaling.png")
    report.put(CHECKOUT / "docs" / "scaling.md", tables)


if __name__ == "__main__":
    typer.run(main)

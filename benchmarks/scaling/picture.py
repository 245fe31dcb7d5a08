"""Draw what the simulation shows, for docs/scaling.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

from benchmarks.scaling.law import Law
from benchmarks.scaling.runs import Outcome

matplotlib.use("Agg")

from matplotlib import pyplot

_COLOURS: Final = {
    "none": "#888888",
    "CPU": "#c0504d",
    "answer time": "#4a7fb5",
    "answer time + forecast": "#2e8b57",
}
NOT_DRAWN: Final = "answer time, not cut off"
"""A policy whose hundred replicas would leave no room for the others."""


def draw(
    runs: Mapping[str, Mapping[str, Outcome]],
    laws: Mapping[str, tuple[Law, Sequence[tuple[int, float]]]],
    out: Path,
) -> None:
    """Write a PNG: rate and replicas over time for each load, and answers by replicas.

    runs: by load and policy. laws: by kind of request, the law and its simulated points.
    """
    figure, panels = pyplot.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    for panel, (load, by_policy) in zip(panels.flat, runs.items(), strict=False):
        _over_time(panel, load, by_policy)
    _by_replicas(panels.flat[3], laws)
    figure.savefig(out, dpi=100)
    pyplot.close(figure)


def _over_time(panel: Any, load: str, by_policy: Mapping[str, Outcome]) -> None:
    rows = next(iter(by_policy.values())).rows
    beside = panel.twinx()
    beside.fill_between(
        [at / 60 for at, *_ in rows], [rate for _, rate, *_ in rows], color="#dddddd", step="pre"
    )
    beside.set_ylabel("requests a second (grey)")
    beside.set_ylim(bottom=0)
    # lines before the grey area, which the second axis would draw over them
    panel.set_zorder(beside.get_zorder() + 1)
    panel.patch.set_visible(False)
    for policy, outcome in by_policy.items():
        if policy == NOT_DRAWN:
            continue
        panel.step(
            [at / 60 for at, *_ in outcome.rows],
            [ready for *_, ready, _ in outcome.rows],
            where="post",
            color=_COLOURS[policy],
            label=f"{policy}: {100 * outcome.answers.refused_share:.1f} % refused",
        )
    panel.set_title(load)
    panel.set_xlabel("minutes")
    panel.set_ylabel("replicas that are ready")
    # room for the names above the lines
    panel.set_ylim(bottom=0, top=1.35 * panel.get_ylim()[1])
    beside.set_ylim(top=1.35 * beside.get_ylim()[1])
    panel.legend(loc="upper right", fontsize=8)


def _by_replicas(panel: Any, laws: Mapping[str, tuple[Law, Sequence[tuple[int, float]]]]) -> None:
    counts = range(1, 101)
    for (name, (law, points)), colour in zip(laws.items(), _COLOURS.values(), strict=False):
        panel.plot(counts, [law.at(each) for each in counts], color=colour, label=f"{name}: law")
        panel.plot(*zip(*points, strict=True), "o", color=colour, label=f"{name}: simulated")
    panel.set_title("most answers a second")
    panel.set_xlabel("replicas")
    panel.set_ylim(bottom=0)
    panel.legend(loc="upper left", fontsize=8)

"""Medians, ratios to Aurum and their ranges: as JSON and as Markdown."""

import json
import os
import platform
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.measure import CALLERS, Figures, Outcome, Plan
from benchmarks.peers.service import Service

_RATIOS: Final = {
    "photos_per_second": "photos/s",
    "one_caller_p50_ms": "one caller p50",
    "eight_callers_p95_ms": "eight callers p95",
    "processor_ms_per_photo": "processor",
    "idle_pss_mib": "memory idle",
    "peak_pss_mib": "memory at its peak",
    "start_seconds": "start",
    "stop_seconds": "stop",
}
_REFERENCE: Final = "Aurum"


def summary(
    outcomes: Mapping[str, Outcome], photos: Sequence[str], answers_one: Collection[str] = ()
) -> dict[str, Any]:
    """By photo and service: faces, and median and range of each figure and of its ratio.

    A ratio is a peer's figure over Aurum's of the same round. There is none for a peer that finds
    another number of faces, as it does other work, unless it is among those that answer one of
    the faces that they embedded.
    """
    reference = outcomes[_REFERENCE]
    return {
        photo: {
            name: _summarised(outcome, reference, photo, one=name in answers_one)
            for name, outcome in outcomes.items()
            if outcome.not_run is None
        }
        for photo in photos
    }


def _summarised(outcome: Outcome, reference: Outcome, photo: str, *, one: bool) -> dict[str, Any]:
    rounds = outcome.figures[photo]
    faces = outcome.faces[photo]
    figures: dict[str, Any] = {
        name: _spread([getattr(each, name) for each in rounds]) for name in _names()
    }
    comparable = outcome is not reference and reference.not_run is None
    if comparable and (faces == 1 if one else faces == reference.faces[photo] > 0):
        pairs = list(zip(rounds, reference.figures[photo], strict=False))
        for name in _RATIOS:
            ratios = [getattr(ours, name) / getattr(base, name) for ours, base in pairs]
            figures[name]["of_aurums"] = _spread(ratios)
    return {"faces": faces, **figures}


def _names() -> list[str]:
    return [field.name for field in fields(Figures)]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def content(
    outcomes: Mapping[str, Outcome],
    services: Sequence[Service],
    photos: Sequence[str],
    plan: Plan,
) -> dict[str, Any]:
    """All that the JSON holds: machine, settings, what was measured and what was not."""
    return {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average_at_the_end": [round(value, 1) for value in os.getloadavg()],
        },
        "settings": {**asdict(plan), "callers": CALLERS, "warm-up rounds": 1},
        "services": {
            each.name: {**each.origin(), "does": each.work}
            for each in services
            if outcomes[each.name].not_run is None
        },
        "not_run": {
            name: outcome.not_run
            for name, outcome in outcomes.items()
            if outcome.not_run is not None
        },
        "results": summary(
            outcomes, photos, [each.name for each in services if not each.answers_all]
        ),
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The tables of what `content` holds."""
    blocks = [_services(found["services"], found["not_run"])]
    for photo, services in found["results"].items():
        blocks.append(f"**{photo}**\n\n{_figures(services)}")
        ratios = _ratios(services)
        if ratios:
            blocks.append(f"Of Aurum's, round by round:\n\n{ratios}")
    settings, machine = found["settings"], found["machine"]
    blocks.append(
        f"Medians over {settings['rounds']} alternated rounds (in brackets: lowest and highest) on "
        f"{machine['cores']} cores, callers included; {settings['seconds']:g} s for each "
        f"load; memory idle {settings['rest_seconds']:g} s after the first answers. "
        "Memory is PSS, summed over all processes; RSS behind the stroke. A start lasts until the "
        "first photo is answered."
    )
    return "\n\n".join(blocks) + "\n"


def _services(services: Mapping[str, Any], not_run: Mapping[str, str]) -> str:
    rows = [
        [name, each["version"], each["built from"], each["does"]] for name, each in services.items()
    ]
    rows += [[name, "not run", why, ""] for name, why in not_run.items()]
    return _table(["service", "version", "built from", "does"], rows)


def _figures(services: Mapping[str, Any]) -> str:
    head = ["service", "faces", "photos/s", "one caller p50 / p95 ms", "eight callers p50 / p95 ms"]
    head += ["processor ms a photo", "memory idle MiB", "at its peak MiB", "start s", "stop s"]
    rows = []
    for name, each in services.items():
        middle = {key: value["median"] for key, value in each.items() if key != "faces"}
        row = [name, str(each["faces"]), _ranged(each["photos_per_second"])]
        row += [
            f"{middle[f'{callers}_p50_ms']:.0f} / {middle[f'{callers}_p95_ms']:.0f}"
            for callers in ("one_caller", "eight_callers")
        ]
        row.append(f"{middle['processor_ms_per_photo']:.1f}")
        row += [
            f"{middle[f'{when}_pss_mib']:.0f} / {middle[f'{when}_rss_mib']:.0f}"
            for when in ("idle", "peak")
        ]
        row += [f"{middle['start_seconds']:.1f}", f"{middle['stop_seconds']:.1f}"]
        rows.append(row)
    return _table(head, rows)


def _ratios(services: Mapping[str, Any]) -> str:
    rows = [
        [name, *(_ranged(each[figure]["of_aurums"]) for figure in _RATIOS)]
        for name, each in services.items()
        if "of_aurums" in each["photos_per_second"]
    ]
    return _table(["service", *_RATIOS.values()], rows) if rows else ""


def _ranged(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.3g} ({spread['min']:.3g}-{spread['max']:.3g})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def write(found: Mapping[str, Any], out: Path) -> None:
    """Write JSON to `out` and the tables beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")
    out.with_suffix(".md").write_text(markdown(found))

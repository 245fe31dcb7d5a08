"""Versions that the journal of models records as taken out because they do not work."""

from pathlib import Path
from typing import Final

import orjson

from gateway.types import StageStatus, StageVersion

_JOURNAL: Final = Path("models") / "journal.jsonl"
_BROKEN: Final = ("withdraw", "abort")
"""Actions that take a version out; a trial that a person aborts has no reason."""


def read_rejected(home: Path) -> dict[tuple[str, str], str]:
    """Read the reasons by stage and version, where a withdrawal is the last action."""
    try:
        lines = (home / _JOURNAL).read_bytes().splitlines()
    except OSError:
        return {}
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        try:
            entry = orjson.loads(line)
            key = (str(entry["stage"]), str(entry["version"]))
            found.pop(key, None)
            if entry["action"] in _BROKEN and entry["phase"] == "done" and entry["reason"]:
                found[key] = str(entry["reason"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            # cut off by a crash
            continue
    return found


def with_rejected(
    stages: tuple[StageStatus, ...], rejected: dict[tuple[str, str], str]
) -> tuple[StageStatus, ...]:
    """Give the reason of each version that was taken out; add those that the engine never saw."""

    def shown(stage: StageStatus) -> StageStatus:
        reasons = {number: why for (name, number), why in rejected.items() if name == stage.name}
        listed = [
            StageVersion(each.version, "UNAVAILABLE", f"taken out: {reasons.pop(each.version)}")
            if each.version in reasons and not each.ready
            else each
            for each in stage.versions
        ]
        there = {each.version for each in listed}
        listed += [
            StageVersion(number, "UNAVAILABLE", f"taken out: {why}")
            for number, why in reasons.items()
            if number not in there
        ]
        return StageStatus(stage.name, tuple(sorted(listed, key=lambda each: int(each.version))))

    return tuple(shown(stage) for stage in stages)

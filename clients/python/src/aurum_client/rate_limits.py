"""What the service says about the limits of a key: `RateLimit-Policy` and `RateLimit`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

_ITEM = re.compile(r'"([^"\\]+)"((?:\s*;\s*[a-z*][a-z0-9_.*-]*(?:=(?:"[^"]*"|[^;,"]+))?)*)')
_PARAMETER = re.compile(r";\s*([a-z]+)=(\d{1,15})(?![^\s;])")
_TEXT = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class RateLimit:
    """One limit of the key, as the last answer had it."""

    quota: int
    """Units in a window, or at a time."""
    available: int
    """Units that are left."""
    window_seconds: Optional[int] = None
    """Window of the quota; None for units at a time."""
    reset_seconds: Optional[int] = None
    """Seconds until all units are available again, or, if none is left, until one is."""


class LastLimits:
    """The limits in the last answer that named any; clients that share connections share it."""

    def __init__(self) -> None:
        self.by_policy: Mapping[str, RateLimit] = {}

    def note(self, headers: Mapping[str, str]) -> None:
        """Read the headers of an answer."""
        found = read_rate_limits(headers)
        if found:
            self.by_policy = found


def read_rate_limits(headers: Mapping[str, str]) -> dict[str, RateLimit]:
    """Read the limits by their policies; what is not understood is left out."""
    policies = _items(headers.get("RateLimit-Policy", ""))
    limits: dict[str, RateLimit] = {}
    for name, left in _items(headers.get("RateLimit", "")).items():
        policy = policies.get(name, {})
        if "q" in policy and "r" in left:
            limits[name] = RateLimit(policy["q"], left["r"], policy.get("w"), left.get("t"))
    return limits


def _items(text: str) -> dict[str, dict[str, int]]:
    return {
        name: {key: int(value) for key, value in _PARAMETER.findall(_TEXT.sub("", parameters))}
        for name, parameters in _ITEM.findall(text)
    }

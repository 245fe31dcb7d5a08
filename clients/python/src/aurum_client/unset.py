"""The difference between leaving a field as it is and setting it to None."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any


class Unset(enum.Enum):
    """The type of `UNSET`."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset.UNSET
"""Leaves a field as it is."""


def given(**values: Any) -> Mapping[str, Any]:
    """Return the fields that were set."""
    found: dict[str, Any] = {name: each for name, each in values.items() if each is not UNSET}
    return found

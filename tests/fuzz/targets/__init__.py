"""The targets: functions of bytes that fail when something does not hold; by name in `TARGETS`."""

from collections.abc import Callable
from importlib import import_module
from typing import Final

Target = Callable[[bytes], None]

TARGETS: Final = {
    "sniff": ("images", "sniff_and_read"),
    "walk": ("images", "walk"),
    "orientation": ("images", "orientation"),
    "decode": ("images", "decode_what_the_header_says"),
    "cursors": ("documents", "cursors"),
    "json": ("documents", "json_limits"),
    "kserve": ("documents", "kserve"),
    "credentials": ("credentials", "keys_and_headers"),
    "tokens": ("credentials", "tokens"),
    "key_sets": ("credentials", "key_sets"),
    "archives": ("archives", "archives"),
    "forms": ("forms", "forms"),
}
"""Module and function by the name that `python -m tests.fuzz` takes."""


def load(name: str) -> Target:
    """Import a target and no other: the fuzzer instruments all that is imported."""
    module, function = TARGETS[name]
    target: Target = getattr(import_module(f"{__name__}.{module}"), function)
    return target

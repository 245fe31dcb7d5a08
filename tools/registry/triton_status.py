"""State of each version in a running Triton, over its HTTP port."""

import json
import time
from dataclasses import dataclass
from typing import Any, Final

from tools.clients.http import fetch
from tools.clients.listeners import Addresses, triton_listeners

_TIMEOUT_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.2
_SETTLED_SECONDS: Final = 3.0
"""Triton looks every second; before that a failure may be that of an earlier folder."""


@dataclass(frozen=True, slots=True)
class TritonState:
    """State and reason of a version in Triton's words; the reason in one line."""

    state: str
    reason: str


States = dict[tuple[str, int], TritonState]
"""By stage and version."""


def read_index(settings: Addresses) -> list[dict[str, Any]] | None:
    """Ask Triton for its repository index, as it comes; None if no Triton answers there."""
    address = triton_listeners(settings)[0].address
    try:
        status, body = fetch(
            address, "/v2/repository/index", post=b"{}", timeout_seconds=_TIMEOUT_SECONDS
        )
        index: list[dict[str, Any]] = json.loads(body)
    except (OSError, json.JSONDecodeError):
        return None
    return index if status == 200 else None


def read_states(settings: Addresses) -> States | None:
    """State of each version in Triton's repository index; None if no Triton answers there."""
    index = read_index(settings)
    if index is None:
        return None
    return {
        (entry["name"], int(entry["version"])): TritonState(
            entry.get("state", ""), first_line(entry.get("reason", ""))
        )
        for entry in index
        if entry.get("version")
    }


def read_settled(settings: Addresses) -> States | None:
    """Ask until nothing is loading, for a few seconds: Triton tries a broken version every second.

    A version that loads at every look keeps the reason of its last failure, if one was seen.
    """
    latest = read_states(settings)
    seen = dict(latest or {})
    deadline = time.monotonic() + _SETTLED_SECONDS
    while latest is not None and time.monotonic() < deadline:
        loading = [key for key, each in seen.items() if each.state == "LOADING"]
        if not loading:
            break
        time.sleep(_POLL_SECONDS)
        latest = read_states(settings)
        seen |= {key: state for key, state in (latest or {}).items() if key in loading}
    return None if latest is None else seen


def wait_for(
    settings: Addresses, stage: str, version: int, *, seconds: float
) -> tuple[TritonState | None, float]:
    """Wait until Triton serves a version or says that it does not load.

    Returns:
        Its last state (None: no Triton answers) and the seconds waited.
    """
    started = time.monotonic()
    while True:
        states = read_states(settings)
        if states is None:
            return None, time.monotonic() - started
        state = states.get((stage, version), TritonState("UNKNOWN", "Triton has not seen it"))
        waited = time.monotonic() - started
        others = {
            number
            for (name, number), each in states.items()
            if name == stage and each.state == "READY" and number > version
        }
        failed = state.state == "UNAVAILABLE" and waited > _SETTLED_SECONDS
        if (state.state == "READY" and not others) or failed or waited > seconds:
            return state, waited
        time.sleep(_POLL_SECONDS)


def first_line(reason: str) -> str:
    """The first line of a reason, without the word that every error begins with."""
    lines = reason.strip().splitlines()
    return lines[0].removeprefix("Internal: ") if lines else ""

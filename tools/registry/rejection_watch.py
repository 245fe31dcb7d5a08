"""While Triton runs: a newest version that it refuses time and again is taken out.

Triton serves the old version on, but tries the broken one again every second, which costs half a
core; and it would not start with it. A version being tried that Triton refuses, or that the
gateway has stopped asking, is not tried any more.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.clients.gateway_tls import own_gateway_context
from tools.clients.http import fetch
from tools.clients.listeners import Addresses, gateway_listener
from tools.clients.local_key import local_key_headers
from tools.errors import LifecycleError
from tools.registry.remedies import put_right
from tools.registry.running_trial import RunningTrial, read_running_trial
from tools.registry.triton_status import States, read_states
from tools.registry.version_store import STAGE_NAMES, VersionStore
from triton_python_backend.contract import candidate_of

_EVERY_SECONDS: Final = 1.0
_CANDIDATE_ROUTE: Final = "/api/ml/models/candidate"
_QUIET_SHARE: Final = 0.5
"""Share of the patience: a folder that was written to within it may still be being copied."""


class VersionWatch:
    """Remembers since when which version fails."""

    def __init__(
        self,
        settings: Addresses,
        version_store: VersionStore,
        *,
        patience_seconds: float,
        report: Callable[[str], None],
    ) -> None:
        """patience_seconds: how long a version may fail; a person may be repairing it."""
        self._settings = settings
        self._patience_seconds = patience_seconds
        self._version_store = version_store
        self._report = report
        self._failing: dict[tuple[str, int], float] = {}

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Look once."""
        states = read_states(self._settings)
        if states is None:
            self._failing.clear()
            return
        for stage in STAGE_NAMES:
            try:
                self._look_at(stage, states)
            except (LifecycleError, OSError) as error:
                self._report(f"{stage} was not put right: {error}")
        try:
            self._look_at_trial(states)
        except (LifecycleError, OSError) as error:
            self._report(f"the trial was not put right: {error}")

    def _look_at_trial(self, states: States) -> None:
        plan = read_running_trial(self._version_store.repository)
        if plan is None:
            return
        reason = self._why_refused(plan, states) or why_stopped(self._settings, plan.trial)
        if reason:
            put_right(self._version_store, "abort", plan.trial, reason, report=self._report)

    def _why_refused(self, plan: RunningTrial, states: States) -> str:
        """Why Triton has not loaded a candidate for some time; empty if it has."""
        key = (candidate_of(plan.stage), plan.version)
        state = states.get(key)
        if state is None or state.state == "READY":
            self._failing.pop(key, None)
            return ""
        # while it is loaded once more it has not proved anything
        if state.state != "UNAVAILABLE":
            return ""
        since = self._failing.setdefault(key, time.monotonic())
        if time.monotonic() - since < self._patience_seconds:
            return ""
        del self._failing[key]
        return state.reason or "Triton does not load it"

    def _look_at(self, stage: str, states: States) -> None:
        placed = self._version_store.placed_versions(stage)
        if not placed:
            return
        newest = placed[-1]
        state = states.get((stage, newest))
        if state is None or state.state == "READY" or len(placed) < 2:
            self._failing.pop((stage, newest), None)
            return
        if state.state != "UNAVAILABLE":
            return
        since = self._failing.setdefault((stage, newest), time.monotonic())
        folder = self._version_store.placed(stage, newest)
        patient = time.monotonic() - since < self._patience_seconds
        quiet_seconds = _QUIET_SHARE * self._patience_seconds
        if patient or time.time() - _last_written(folder) < quiet_seconds:
            return
        del self._failing[stage, newest]
        put_right(self._version_store, "withdraw", stage, newest, state.reason, report=self._report)


def why_stopped(settings: Addresses, trial: str) -> str:
    """Why the gateway does not ask the candidate of a trial any more; empty while it does."""
    try:
        headers = local_key_headers(settings.home)
        address = gateway_listener(settings).address
        context = own_gateway_context(settings)
        status, body = fetch(address, _CANDIDATE_ROUTE, headers=headers, context=context)
        found = json.loads(body).get("trial") if status == 200 else None
    except (OSError, json.JSONDecodeError):
        return ""
    return str(found["reason"]) if found and found["trial"] == trial else ""


def _last_written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])

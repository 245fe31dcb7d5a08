"""Probes of the components that readiness reports and few requests use.

Each is asked every other second in the background, one question at a time: the next one waits for
the answer.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError
from gateway.telemetry.metrics import PartMetrics

log = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 2.0

Probe = Callable[[], Awaitable[str]]
"""Describes a part that works in one line; raises AurumError if it does not work."""


@dataclass(frozen=True, slots=True)
class PartState:
    """The state of a part when it was last asked; `detail` says why it does not work."""

    works: bool
    detail: str


class ComponentProbes:
    """The states of parts by name."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        metrics: PartMetrics,
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._probes = probes
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._patience_seconds = patience_seconds
        # they have just been opened
        self.states = {name: PartState(works=True, detail="not asked yet") for name in probes}

    @asynccontextmanager
    async def running(self, background: BackgroundTasks) -> AsyncIterator[None]:
        """Ask, until the end of the block."""
        async with AsyncExitStack() as stack:
            for name, probe in self._probes.items():
                work = partial(self._keep_asking, background, name, probe)
                await stack.enter_async_context(background.running(f"part-{name}", work))
            yield

    async def _keep_asking(self, background: BackgroundTasks, name: str, probe: Probe) -> None:
        while True:
            started = time.monotonic()
            question = background.detach(f"part-{name}-question", self._ask(probe))
            try:
                while not (await asyncio.wait({question}, timeout=self._patience_seconds))[0]:
                    waited = time.monotonic() - started
                    self._note(name, PartState(False, f"no answer for {waited:.0f} s"))
                self._note(name, question.result())
                self._metrics.seconds.labels(name).observe(time.monotonic() - started)
            finally:
                question.cancel()
                # before the part is closed: SQLAlchemy closes the connection of a cancelled
                # question in another task, which never ends once the engine is gone
                await asyncio.wait({question}, timeout=self._patience_seconds)
            await asyncio.sleep(self._interval_seconds)

    async def _ask(self, probe: Probe) -> PartState:
        try:
            return PartState(True, await probe())
        except AurumError as error:
            return PartState(False, error.detail)
        except Exception as error:  # the supervisor of this task
            log.exception("part not asked")
            return PartState(False, f"{type(error).__name__}: {error}")

    def _note(self, name: str, state: PartState) -> None:
        if state.works != self.states[name].works:
            event = "part works again" if state.works else "part does not work"
            log.warning(event, extra={"part": name, "reason": state.detail})
        self.states[name] = state
        self._metrics.up.labels(name).set(state.works)

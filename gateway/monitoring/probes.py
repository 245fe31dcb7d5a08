"""The parts that readiness names although nobody asks them often: are they there?

Each is asked every other second in the background, by one question at a time: one that does not
answer is not asked again before it does.
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
"""Says in a line how a part does; raises AurumError if it does not."""


@dataclass(frozen=True, slots=True)
class PartState:
    """How a part did when it was last asked; `detail` says why it does not work."""

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
        # they were opened a moment ago
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
                # before its part is closed: SQLAlchemy ends a connection whose question was
                # cancelled in a task of its own, which never ends once the engine is gone
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

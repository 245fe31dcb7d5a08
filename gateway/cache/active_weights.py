"""Which weights are believed to be in service, so that answers can be looked up."""

import asyncio
import logging
from typing import Final

from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.base import Inference
from gateway.types import Analysis, InService, Weights

log = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 5.0


class ActiveWeights:
    """Asks the engine every second. An answer by other weights invalidates what is known at once.

    While the engine does not answer, the last answer stands: what is cached can still be served.
    """

    def __init__(
        self, inference: Inference, *, interval_seconds: float = _INTERVAL_SECONDS
    ) -> None:
        self._inference = inference
        self._interval_seconds = interval_seconds
        self._now: InService | None = None
        self._contradictions = 0
        self._contradicted = asyncio.Event()

    @property
    def now(self) -> InService | None:
        """The weights in service; None while that is not known."""
        return self._now

    def compare(self, analysis: Analysis) -> None:
        """Invalidate what is known if an answer was made by other weights."""
        if self._now is None:
            return
        pairs: list[tuple[Weights | None, Weights | None]] = [
            (self._now.detection, analysis.detection),
            (self._now.embedding, analysis.embedding),
            (self._now.scoring, analysis.scoring),
        ]
        if any(a is not None and b is not None and a.id != b.id for a, b in pairs):
            self._now = None
            self._contradictions += 1
            self._contradicted.set()

    async def refresh(self) -> None:
        """Ask the engine; an answer that was overtaken by a contradiction is not believed."""
        before = self._contradictions
        self._contradicted.clear()
        try:
            found = await self._inference.in_service(deadline=Deadline.after(_PATIENCE_SECONDS))
        except AurumError as error:
            log.debug("weights in service not known", extra={"reason": error.detail})
            return
        if self._contradictions == before:
            self._now = found

    async def wait(self) -> None:
        """Return when it is time to refresh."""
        try:
            async with asyncio.timeout(self._interval_seconds):
                await self._contradicted.wait()
        except TimeoutError:
            return

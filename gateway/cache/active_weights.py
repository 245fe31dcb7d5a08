"""Which weights are active, as far as is known, so that answers can be looked up."""

import asyncio
import logging
from typing import Final

from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.base import Inference
from gateway.types import ActiveVersions, Analysis

log = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 5.0


class ActiveWeights:
    """Asks the engine every second; an answer by other weights invalidates what is known at once.

    While the engine does not answer, the last listing stays, so that cached answers are served.
    """

    def __init__(
        self, inference: Inference, *, interval_seconds: float = _INTERVAL_SECONDS
    ) -> None:
        self._inference = inference
        self._interval_seconds = interval_seconds
        self._now: ActiveVersions | None = None
        self._contradictions = 0
        self._contradicted = asyncio.Event()

    @property
    def now(self) -> ActiveVersions | None:
        """The active weights; None while they are not known."""
        return self._now

    def compare(self, analysis: Analysis) -> None:
        """Invalidate what is known if an answer was made by other weights."""
        if self._now is None:
            return
        known = self._now
        if any(
            stage in known and known[stage].id != weights.id
            for stage, weights in analysis.weights.items()
        ):
            self._now = None
            self._contradictions += 1
            self._contradicted.set()

    async def refresh(self) -> None:
        """Ask the engine; a listing that an answer has contradicted meanwhile is dropped."""
        before = self._contradictions
        self._contradicted.clear()
        try:
            found = await self._inference.in_service(deadline=Deadline.after(_PATIENCE_SECONDS))
        except AurumError as error:
            log.debug("active weights not known", extra={"reason": error.detail})
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

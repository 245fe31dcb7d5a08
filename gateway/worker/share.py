"""A small share of Triton for jobs while callers take all of it.

Triton answers requests of the lower priority only while none of the higher one waits. Callers that
never let their queue run empty would stop a job for good, and its images would end as timeouts.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

from gateway.deadline import Deadline
from gateway.errors import RequestTimeoutError
from gateway.inference.base import Inference
from gateway.inference.work_done import WorkDone
from gateway.types import ActiveVersions, Analysis, EngineStatus, Need, StageStatus
from gateway.worker.counted import JobInference
from triton_python_backend.contract import DEFAULT_LOOK, Look

_PATIENT_SHARE: Final = 1 / 3
"""Of an image's time: for so long it waits behind all callers."""
_PRESSED_SECONDS: Final = 60.0
"""How long the next images need not wait behind all callers, after one that waited in vain."""
_PAUSE_SECONDS: Final = 1.0
"""Between images that do not."""


class SharingInference:
    """Asks behind all callers; where that is in vain, asks as a caller once a second.

    One image at a time does so. A request that waited in vain is not cancelled, which Triton may
    not survive: it is answered when the callers stop, once a minute one that nobody needs any more.
    """

    def __init__(
        self,
        patient: JobInference,
        as_caller: Inference,
        *,
        pause_seconds: float = _PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask behind all callers by one engine, as a caller by the other."""
        self._patient = patient
        self._as_caller = as_caller
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._pressed_until = -math.inf
        self._next_at = -math.inf
        self._turn = asyncio.Lock()

    async def analyse(
        self, image: bytes, *, need: Need, deadline: Deadline, look: Look = DEFAULT_LOOK
    ) -> Analysis:
        """See `Inference.analyse`."""
        if self._clock() >= self._pressed_until:
            patience = deadline.part(_PATIENT_SHARE)
            try:
                return await self._patient.analyse(image, need=need, deadline=patience, look=look)
            except RequestTimeoutError:
                self._pressed_until = self._clock() + _PRESSED_SECONDS
        async with self._turn:
            await asyncio.sleep(self._next_at - self._clock())
            self._next_at = self._clock() + self._pause_seconds
            return await self._as_caller.analyse(image, need=need, deadline=deadline, look=look)

    async def work_done(self, *, deadline: Deadline) -> WorkDone:
        """See `JobInference.work_done`."""
        return await self._patient.work_done(deadline=deadline)

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        """See `Inference.status`."""
        return await self._patient.status(deadline=deadline)

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """See `Inference.stages`."""
        return await self._patient.stages(deadline=deadline)

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        """See `Inference.in_service`."""
        return await self._patient.in_service(deadline=deadline)

    async def close(self) -> None:
        """See `Inference.close`."""
        await self._patient.close()
        await self._as_caller.close()

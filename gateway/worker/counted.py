"""An engine that counts what is asked of it."""

from typing import Protocol

from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError
from gateway.inference.base import Inference
from gateway.inference.work_done import WorkDone
from gateway.types import ActiveVersions, Analysis, EngineStatus, Need, StageStatus
from triton_python_backend.contract import DEFAULT_LOOK, Look


class JobInference(Inference, Protocol):
    """An engine that says how much it does for others."""

    async def work_done(self, *, deadline: Deadline) -> WorkDone:
        """Sum up what the engine did for all its callers. Raises as `analyse`."""


class CountedInference:
    """`Inference` by another one."""

    def __init__(self, inner: Inference) -> None:
        self._inner = inner
        self.images = 0
        """That were answered or refused, as Triton counts them."""

    async def analyse(
        self, image: bytes, *, need: Need, deadline: Deadline, look: Look = DEFAULT_LOOK
    ) -> Analysis:
        """See `Inference.analyse`."""
        try:
            return await self._inner.analyse(image, need=need, deadline=deadline, look=look)
        except InferenceUnavailableError:
            # no Triton has counted it
            self.images -= 1
            raise
        finally:
            self.images += 1

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        """See `Inference.status`."""
        return await self._inner.status(deadline=deadline)

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """See `Inference.stages`."""
        return await self._inner.stages(deadline=deadline)

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        """See `Inference.in_service`."""
        return await self._inner.in_service(deadline=deadline)

    async def close(self) -> None:
        """See `Inference.close`."""
        await self._inner.close()

"""What the gateway asks of an inference engine."""

from typing import Protocol

from gateway.deadline import Deadline
from gateway.types import Analysis, EngineStatus, InService, Need, StageStatus
from triton_python_backend.contract import DEFAULT_LOOK, Look


class Inference(Protocol):
    """An engine that finds, embeds and scores the faces of an encoded image."""

    async def analyse(
        self, image: bytes, *, need: Need, deadline: Deadline, look: Look = DEFAULT_LOOK
    ) -> Analysis:
        """Analyse one encoded image; no face is an analysis without faces.

        Raises:
            InvalidImageError: the bytes cannot be decoded.
            InferenceUnavailableError: the engine is not there, or a stage of it is not.
            RequestTimeoutError: the deadline passed.

        """

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        """Say which stages answer, cheaply: without ids.

        An engine that is not there is a status, too, no error.
        """

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """List the stages with the id of each version that answers. Raises as `analyse`."""

    async def in_service(self, *, deadline: Deadline) -> InService:
        """Say which weights a new request would meet, cheaply. Raises as `analyse`."""

    async def close(self) -> None:
        """Let go of connections and tasks."""

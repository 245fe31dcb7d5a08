"""What the gateway asks of an inference engine."""

from typing import Protocol

from gateway.deadline import Deadline
from gateway.types import ActiveVersions, Analysis, EngineStatus, Need, StageStatus
from triton_python_backend.contract import DEFAULT_LOOK, Look


class Inference(Protocol):
    """An engine that finds the faces of an encoded image and runs the networks on them."""

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
        """Report which stages answer, cheaply: without ids.

        An engine that is not there is a status, not an error.
        """

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """List the stages with the id of each version that answers. Raises as `analyse`."""

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        """Report which weights a new request would meet, cheaply. Raises as `analyse`."""

    async def close(self) -> None:
        """Close connections and stop tasks."""


class FallbackEngine(Inference, Protocol):
    """An engine that answers while Triton is away."""

    @property
    def pid(self) -> int | None:
        """Its process; None while there is none."""

    async def start(self, *, deadline: Deadline) -> None:
        """Be ready for an image, which takes some seconds at first. Raises as `analyse`."""

    def prefer(self, weights: ActiveVersions) -> None:
        """Use these weights, with which Triton answers, rather than the newest."""

"""Rank 2: what the gateway asks of an inference engine."""

from typing import Protocol

from gateway.candidates.plan import Candidate
from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError
from gateway.models import Analysis, EngineStatus, InService, Need, StageStatus
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


class CandidateInference(Protocol):
    """The same engine with the version being tried in the place of the one in service."""

    async def candidate(self, *, deadline: Deadline) -> Candidate | None:
        """Say what is being tried, cheaply; None if nothing is, or it is not ready.

        Raises as `Inference.analyse`.
        """

    async def analyse(
        self,
        candidate: Candidate,
        image: bytes,
        *,
        need: Need,
        deadline: Deadline,
        look: Look = DEFAULT_LOOK,
    ) -> Analysis:
        """As `Inference.analyse`, once; AurumError, too, for an answer that makes no sense."""

    async def close(self) -> None:
        """Let go of connections and tasks."""


class NothingTried:
    """A `CandidateInference` where there is no way to try a version."""

    async def candidate(self, *, deadline: Deadline) -> Candidate | None:
        """Nothing."""
        return None

    async def analyse(
        self,
        candidate: Candidate,
        image: bytes,
        *,
        need: Need,
        deadline: Deadline,
        look: Look = DEFAULT_LOOK,
    ) -> Analysis:
        """Refuse."""
        raise InferenceUnavailableError("no version is being tried")

    async def close(self) -> None:
        """Nothing to let go of."""

"""What the gateway asks of the engine with the version on trial in place."""

from typing import Protocol

from gateway.deadline import Deadline
from gateway.rollout.plan import Candidate
from gateway.types import Analysis, Need
from triton_python_backend.contract import DEFAULT_LOOK, Look


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

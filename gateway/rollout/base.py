"""What the gateway asks of the engine that runs the version on trial."""

from typing import Protocol

from gateway.deadline import Deadline
from gateway.rollout.plan import Candidate
from gateway.types import Analysis, Need
from triton_python_backend.contract import DEFAULT_LOOK, Look


class CandidateInference(Protocol):
    """The engine with the version on trial in the place of the active one."""

    async def candidate(self, *, deadline: Deadline) -> Candidate | None:
        """Report the version on trial, cheaply; None if there is none, or it is not ready.

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
        """As `Inference.analyse`, in one attempt; also AurumError for an invalid answer."""

    async def close(self) -> None:
        """Close connections and stop tasks."""

"""A deterministic candidate: the fake engine's answers, but for the weights of one stage."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np

from gateway.deadline import Deadline
from gateway.errors import AurumError, InferenceUnavailableError
from gateway.rollout.plan import Candidate, Plan
from gateway.types import Analysis, Face, Need, Weights
from tests.support.fake_inference import FakeInference
from triton_python_backend.contract import DEFAULT_LOOK, Look

TRIED = format(0xABC, "016x")


def plan(**changes: Any) -> Plan:
    """A canary of the embedding that answers all requests by default."""
    fields: dict[str, Any] = {
        "trial": "t1",
        "stage": "face_embedding",
        "version": 7,
        "mode": "canary",
        "share": 1.0,
        "since": "2026-01-01T00:00:00+00:00",
    }
    return Plan(**(fields | changes))


def candidate(*, identifier: str = TRIED, rates: bool = True, **changes: Any) -> Candidate:
    chosen = plan(**changes)
    lacks = Need.NOTHING_MORE if rates else Need.SCORE
    return Candidate(chosen, Weights(identifier, str(chosen.version)), lacks)


class FakeCandidate:
    """`CandidateInference` without a network; `error` and `seconds` bend what it does."""

    def __init__(self, tried: Candidate | None, *, seconds: float = 0) -> None:
        self.tried = tried
        self.error: AurumError | None = None
        self.seconds = seconds
        self.calls = 0
        self.active = 0
        self.most_active = 0
        self.held: asyncio.Event | None = None
        """Where set, answers wait for it."""
        self.began: list[float] = []
        self.ended: list[float] = []
        self._engine = FakeInference()

    async def candidate(self, *, deadline: Deadline) -> Candidate | None:
        return self.tried

    async def analyse(
        self,
        candidate: Candidate,
        image: bytes,
        *,
        need: Need,
        deadline: Deadline,
        look: Look = DEFAULT_LOOK,
    ) -> Analysis:
        self.calls += 1
        self.began.append(time.monotonic())
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            if self.held is not None:
                await self.held.wait()
            await asyncio.sleep(min(self.seconds, deadline.remaining_seconds()))
            deadline.remaining_seconds()
            if self.error is not None:
                raise self.error
            analysis = await self._engine.analyse(image, need=need, deadline=deadline, look=look)
        finally:
            self.active -= 1
            self.ended.append(time.monotonic())
        faces = tuple(_moved(face) for face in analysis.faces)
        return replace(analysis, faces=faces, weights=dict(candidate.among(analysis.weights)))

    async def close(self) -> None:
        """Nothing to let go of."""


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


def _moved(face: Face) -> Face:
    # half a rating more, and an embedding at a cosine of 0.6
    embedding = face.embedding
    if embedding is not None:
        embedding = np.float32(0.6) * embedding + np.float32(0.8) * np.roll(embedding, 1)
    score = None if face.score is None else face.score + 0.5
    return face.with_outputs(embedding=embedding, score=score)

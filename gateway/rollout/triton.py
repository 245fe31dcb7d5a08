"""The version being tried, on a Triton server: `face_pipeline_candidate`, over gRPC.

It has a channel of its own, so that what is tried never stands in the way of what is answered.
"""

import logging
from typing import Final

import numpy as np
from pydantic import ValidationError

from gateway.deadline import Deadline
from gateway.errors import AurumError, InferenceUnavailableError
from gateway.inference.client import Array, TritonCalls
from gateway.inference.triton import (
    ensemble_for,
    outputs_for,
    read_beyond,
    read_faces,
    read_rotation,
)
from gateway.inference.version_index import REFRESH_SECONDS, VersionBook
from gateway.rollout.plan import Candidate, Plan
from gateway.types import Analysis, Face, Need, StageStatus, Weights
from triton_python_backend import contract

log = logging.getLogger(__name__)

_PIPELINE: Final = contract.candidate_of(contract.PIPELINE.name)
_ENSEMBLES: Final = (_PIPELINE, contract.candidate_of(contract.UNSCORED.name))
_STAGES: Final = tuple(stage.name for stage in contract.ONNX_STAGES)
_PROBE_EDGE: Final = 64
_GREY: Final = 127


class TritonCandidate:
    """`CandidateInference` by a Triton server; opened within a running event loop."""

    def __init__(self, address: str) -> None:
        self._calls = TritonCalls(address)
        self._versions = VersionBook(self._calls)
        self._known: Candidate | None = None
        self._seen: tuple[StageStatus, ...] = ()
        self._valid_until: Deadline | None = None

    async def candidate(self, *, deadline: Deadline) -> Candidate | None:
        """See `CandidateInference.candidate`. Asks the versions only when something changed."""
        models = (*_ENSEMBLES, *_STAGES, *(contract.candidate_of(stage) for stage in _STAGES))
        listed = await self._calls.listed(models, deadline=deadline)
        if not all(each.ready for each in listed if each.name in _ENSEMBLES):
            self._known = None
            return None
        text = await self._calls.parameter(
            _PIPELINE, contract.CANDIDATE_PARAMETER, deadline=deadline
        )
        plan = _read_plan(text)
        if plan is None:
            self._known = None
            return None
        fresh = self._valid_until is not None and self._valid_until.allows(0)
        if self._known is None or self._known.plan != plan or self._seen != listed or not fresh:
            self._known = await self._probe(plan, deadline)
            self._seen = listed
            self._valid_until = Deadline.after(REFRESH_SECONDS)
        return self._known

    async def analyse(
        self,
        candidate: Candidate,
        image: bytes,
        *,
        need: Need,
        deadline: Deadline,
        look: contract.Look = contract.DEFAULT_LOOK,
    ) -> Analysis:
        """See `CandidateInference.analyse`."""
        answer = await self._calls.infer(
            contract.candidate_of(ensemble_for(need)),
            {contract.IMAGE: np.array([image], dtype=np.object_)},
            outputs_for(need),
            deadline=deadline,
            attempts=1,
            parameters=look.parameters(),
        )
        faces = read_faces(answer)
        _require_sense(faces, rates=candidate.rates)
        detection, embedding, scoring = [
            await self._weights(stage, candidate, answer, deadline) for stage in _STAGES
        ]
        if detection is None:
            raise AurumError("the candidate answered without its detector")
        return Analysis(
            faces,
            detection,
            embedding,
            scoring,
            beyond=read_beyond(answer),
            rotation=read_rotation(answer),
        )

    async def close(self) -> None:
        """See `CandidateInference.close`."""
        await self._versions.close()
        await self._calls.close()

    async def _weights(
        self, stage: str, candidate: Candidate, answer: dict[str, Array], deadline: Deadline
    ) -> Weights | None:
        ids = answer.get(contract.ID_OUTPUT[stage])
        if ids is None or not ids.size:
            return None
        identifier = int(ids.reshape(-1)[0])
        if stage != candidate.plan.stage:
            return await self._versions.name(stage, identifier, deadline=deadline)
        if contract.format_id(identifier) != candidate.weights.id:
            raise InferenceUnavailableError("another candidate answered", retry_after_seconds=1)
        return candidate.weights

    async def _probe(self, plan: Plan, deadline: Deadline) -> Candidate:
        """Ask the candidate for its id, and whether scores come out where it stands."""
        if plan.stage == contract.DETECTION.name:
            canvas = np.zeros((1, _PROBE_EDGE, _PROBE_EDGE, 3), dtype=np.uint8)
            answer = await self._ask(plan, plan.stage, {contract.CANVAS: canvas}, deadline)
            return _candidate(plan, answer, rates=True)
        edge = contract.CROP_SIZE
        crop = np.full((1, edge, edge, 3), _GREY, dtype=np.uint8)
        stage = contract.EMBEDDING_STAGE.name
        embedded = await self._ask(plan, stage, {contract.CROPS: crop}, deadline)
        inputs = {name: embedded[name] for name in (contract.EMBEDDING, contract.SPACE)}
        try:
            rated = await self._ask(plan, contract.SCORING.name, inputs, deadline)
        except AurumError:
            # a head of another width
            if plan.stage != stage:
                raise
            return _candidate(plan, embedded, rates=False)
        rates = bool(np.isfinite(rated[contract.SCORE]).all())
        return _candidate(plan, embedded if plan.stage == stage else rated, rates=rates)

    async def _ask(
        self, plan: Plan, stage: str, inputs: dict[str, Array], deadline: Deadline
    ) -> dict[str, Array]:
        wanted = {
            contract.DETECTION.name: [contract.DETECTOR],
            contract.EMBEDDING_STAGE.name: [contract.EMBEDDING, contract.SPACE],
            contract.SCORING.name: [contract.SCORE, contract.HEAD],
        }[stage]
        model = contract.candidate_of(stage) if stage == plan.stage else stage
        return await self._calls.infer(model, inputs, wanted, deadline=deadline)


def _read_plan(text: str | None) -> Plan | None:
    try:
        return None if text is None else Plan.model_validate_json(text)
    except ValidationError as error:
        log.warning("the plan of a trial is not readable", extra={"reason": str(error)})
        return None


def _candidate(plan: Plan, answer: dict[str, Array], *, rates: bool) -> Candidate:
    identifier = int(answer[contract.ID_OUTPUT[plan.stage]].reshape(-1)[0])
    return Candidate(plan, Weights(contract.format_id(identifier), str(plan.version)), rates)


def _require_sense(faces: tuple[Face, ...], *, rates: bool) -> None:
    """Refuse values that are no finite numbers; raises AurumError naming them."""
    for face in faces:
        values = {
            "boxes": face.box,
            "landmarks": face.landmarks,
            "confidences": face.confidence,
            "embeddings": face.embedding,
            "scores": face.score if rates else None,
        }
        for name, value in values.items():
            if value is not None and not np.isfinite(np.asarray(value)).all():
                raise AurumError(f"its {name} hold values that are no finite numbers")

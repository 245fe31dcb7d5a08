"""The version on trial, on a Triton server: `face_pipeline_candidate`, over gRPC.

It has a channel of its own, so that a trial never delays answers of the active version.
"""

import logging
from typing import Final

import numpy as np
from pydantic import ValidationError

from gateway.deadline import Deadline
from gateway.errors import AurumError, InferenceUnavailableError
from gateway.inference.answer import Array, read_beyond, read_faces, read_ids, read_rotation
from gateway.inference.client import TritonCalls
from gateway.inference.version_index import REFRESH_SECONDS, VersionIndex, smallest_inputs
from gateway.rollout.plan import Candidate, Plan
from gateway.tls import NO_FILES, TlsFiles
from gateway.types import Analysis, Face, Need, StageStatus, Weights
from triton_python_backend import contract
from triton_python_backend.needs import ensemble_for, networks_behind, outputs_for

log = logging.getLogger(__name__)

_PIPELINE: Final = contract.candidate_of(contract.PIPELINE.name)
_ENSEMBLES: Final = (_PIPELINE, contract.candidate_of(contract.UNSCORED.name))
_STAGES: Final = tuple(stage.name for stage in contract.ONNX_STAGES)
_PROBE_EDGE: Final = (64,)
_GREY: Final = 127


class TritonCandidate:
    """`CandidateInference` by a Triton server; opened within a running event loop."""

    def __init__(self, address: str, *, files: TlsFiles = NO_FILES) -> None:
        """files: as `TritonCalls`."""
        self._calls = TritonCalls(address, files=files)
        self._versions = VersionIndex(self._calls)
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
        faces = read_faces(answer, need)
        _require_finite(faces, lacks=candidate.lacks)
        weights = {
            stage: await self._weights(stage, identifier, candidate, deadline)
            for stage, identifier in read_ids(answer)
        }
        if contract.DETECTION.name not in weights:
            raise AurumError("the candidate answered without its detector")
        return Analysis(
            faces,
            weights,
            beyond=read_beyond(answer),
            rotation=read_rotation(answer),
        )

    async def close(self) -> None:
        """See `CandidateInference.close`."""
        await self._versions.close()
        await self._calls.close()

    async def _weights(
        self, stage: str, identifier: int, candidate: Candidate, deadline: Deadline
    ) -> Weights:
        if stage != candidate.plan.stage:
            return await self._versions.name(stage, identifier, deadline=deadline)
        if contract.format_id(identifier) != candidate.weights.id:
            raise InferenceUnavailableError("another candidate answered", retry_after_seconds=1)
        return candidate.weights

    async def _probe(self, plan: Plan, deadline: Deadline) -> Candidate:
        """Ask the candidate for its id, and which outputs come out where it runs.

        A grey crop passes the networks before and behind it.
        """
        if plan.stage == contract.DETECTION.name:
            (canvas,) = smallest_inputs(plan.stage, _PROBE_EDGE)
            answer = await self._ask(plan, contract.DETECTION, canvas, deadline)
            return Candidate(plan, _weights(plan, answer))
        edge = contract.CROP_SIZE
        tensors: dict[str, Array] = {
            contract.CROPS: np.full((1, edge, edge, 3), _GREY, dtype=np.uint8)
        }
        weights: Weights | None = None
        lacks = Need.NOTHING_MORE
        for stage in contract.FACE_NETWORKS:
            before = stage.name in networks_behind(plan.stage)
            if not before and plan.stage not in networks_behind(stage.name):
                continue
            inputs = {t.name: tensors[t.name] for t in stage.inputs if t.name in tensors}
            answer = {}
            try:
                if len(inputs) == len(stage.inputs):
                    answer = await self._ask(plan, stage, inputs, deadline)
            except AurumError:
                # behind the candidate: made for vectors of another length
                if before:
                    raise
            for output in stage.face_outputs:
                value = answer.get(output.tensor)
                if value is None or (output.is_number and not np.isfinite(value).all()):
                    lacks |= output.need
            if stage.name == plan.stage:
                weights = _weights(plan, answer)
            tensors |= answer
        if weights is None:
            raise AurumError(f"{plan.stage} is no network that can be tried")
        return Candidate(plan, weights, lacks)

    async def _ask(
        self, plan: Plan, stage: contract.Stage, inputs: dict[str, Array], deadline: Deadline
    ) -> dict[str, Array]:
        values = [output.tensor for output in stage.face_outputs]
        model = contract.candidate_of(stage.name) if stage.name == plan.stage else stage.name
        return await self._calls.infer(
            model, inputs, [*values, contract.ID_OUTPUT[stage.name]], deadline=deadline
        )


def _read_plan(text: str | None) -> Plan | None:
    try:
        return None if text is None else Plan.model_validate_json(text)
    except ValidationError as error:
        log.warning("the plan of a trial cannot be read", extra={"reason": str(error)})
        return None


def _weights(plan: Plan, answer: dict[str, Array]) -> Weights:
    identifier = int(answer[contract.ID_OUTPUT[plan.stage]].reshape(-1)[0])
    return Weights(contract.format_id(identifier), str(plan.version))


def _require_finite(faces: tuple[Face, ...], *, lacks: Need) -> None:
    """Refuse values that are not finite; raises AurumError naming them."""
    expected = [
        output
        for output in contract.FACE_OUTPUTS
        if output.need not in lacks and output.dtype == "FP32"
    ]
    for face in faces:
        values = {
            "boxes": face.box,
            "landmarks": face.landmarks,
            "confidences": face.confidence,
            **{f"{output.name}s": face.outputs.get(output.name) for output in expected},
        }
        for name, value in values.items():
            if value is not None and not np.isfinite(np.asarray(value)).all():
                raise AurumError(f"its {name} hold values that are not finite")

"""The engine proper: the ensembles on a Triton server, over gRPC."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.client import Array, TritonCalls
from gateway.inference.version_index import VersionBook
from gateway.types import (
    Analysis,
    EngineStatus,
    Face,
    InService,
    Need,
    Quality,
    StageStatus,
    Weights,
)
from triton_python_backend import contract

_ALWAYS: Final = (
    contract.BOXES,
    contract.LANDMARKS,
    contract.CONFIDENCE,
    contract.QUALITY,
    contract.DETECTOR,
    contract.FOUND_CONFIDENCE,
    contract.ROTATION,
)
_ONLY_FOR: Final = {
    Need.EMBEDDING: (contract.EMBEDDING, contract.SPACE),
    Need.SCORE: (contract.SCORE, contract.HEAD, contract.SPACE),
    Need.CROPS: (contract.CROPS,),
}


class TritonInference:
    """`Inference` by a Triton server; opened within a running event loop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._calls = TritonCalls(address)
        self._versions = VersionBook(self._calls)

    async def analyse(
        self,
        image: bytes,
        *,
        need: Need,
        deadline: Deadline,
        look: contract.Look = contract.DEFAULT_LOOK,
    ) -> Analysis:
        """See `Inference.analyse`. Triton runs only the stages whose outputs are asked for."""
        answer = await self._calls.infer(
            ensemble_for(need),
            {contract.IMAGE: np.array([image], dtype=np.object_)},
            outputs_for(need),
            deadline=deadline,
            parameters=look.parameters(),
        )
        detection = await self._weights(contract.DETECTION.name, answer, deadline)
        if detection is None:
            raise AurumError("inference failed")
        return Analysis(
            faces=read_faces(answer),
            detection=detection,
            embedding=await self._weights(contract.EMBEDDING_STAGE.name, answer, deadline),
            scoring=await self._weights(contract.SCORING.name, answer, deadline),
            beyond=read_beyond(answer),
            rotation=read_rotation(answer),
        )

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        """See `Inference.status`."""
        try:
            stages = await self._calls.stages(deadline=deadline)
        except AurumError as error:
            return EngineStatus(False, f"{self._address}: {error.detail}", ())
        return EngineStatus(True, self._address, stages)

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """See `Inference.stages`."""
        stages = await self._calls.stages(deadline=deadline)
        return await self._versions.with_ids(stages, deadline=deadline)

    async def in_service(self, *, deadline: Deadline) -> InService:
        """See `Inference.in_service`."""
        return await self._versions.in_service(deadline=deadline)

    async def close(self) -> None:
        """See `Inference.close`."""
        await self._versions.close()
        await self._calls.close()

    async def _weights(
        self, stage: str, answer: dict[str, Array], deadline: Deadline
    ) -> Weights | None:
        ids = answer.get(contract.ID_OUTPUT[stage])
        if ids is None or not ids.size:
            return None
        return await self._versions.name(stage, int(ids.reshape(-1)[0]), deadline=deadline)


def ensemble_for(need: Need) -> str:
    """Name the ensemble that answers this with the fewest stages."""
    unscored = Need.EMBEDDING in need and Need.SCORE not in need
    return (contract.UNSCORED if unscored else contract.PIPELINE).name


def outputs_for(need: Need) -> list[str]:
    """List the ensemble's outputs to request, each once."""
    names = dict.fromkeys(_ALWAYS)
    for part, outputs in _ONLY_FOR.items():
        if part in need:
            names.update(dict.fromkeys(outputs))
    return list(names)


def read_faces(answer: dict[str, Array]) -> tuple[Face, ...]:
    """Turn an ensemble's tensors into faces.

    Shapes as in `contract.PIPELINE` or `contract.UNSCORED`, whose row without a face is dropped.
    """
    scores = answer.get(contract.SCORE)
    embeddings = answer.get(contract.EMBEDDING)
    crops = answer.get(contract.CROPS)
    return tuple(
        Face(
            box=_box(answer[contract.BOXES][row]),
            landmarks=tuple((float(x), float(y)) for x, y in answer[contract.LANDMARKS][row]),
            confidence=float(answer[contract.CONFIDENCE][row]),
            quality=_quality(answer[contract.QUALITY][row]),
            score=None if scores is None else float(scores[row]),
            embedding=None if embeddings is None else embeddings[row],
            crop=None if crops is None else crops[row],
        )
        for row in range(len(answer[contract.BOXES]))
    )


def read_beyond(answer: Mapping[str, Array]) -> tuple[float, ...]:
    """Read the confidences of the faces that were found beside those in BOXES."""
    rest = answer[contract.FOUND_CONFIDENCE][len(answer[contract.BOXES]) :]
    return tuple(float(confidence) for confidence in rest)


def read_rotation(answer: Mapping[str, Array]) -> int:
    """Read by how many degrees the picture was turned clockwise to be looked at."""
    return int(answer[contract.ROTATION].reshape(-1)[0])


def _box(row: Array) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in row)
    return left, top, right, bottom


def _quality(row: Array) -> Quality:
    named = dict(zip(contract.QUALITY_COLUMNS, (float(value) for value in row), strict=True))
    return Quality(
        size=named["size"],
        sharpness=named["sharpness"],
        brightness=named["brightness"],
        yaw=named["yaw"],
        pitch=named["pitch"],
        roll=named["roll"],
    )

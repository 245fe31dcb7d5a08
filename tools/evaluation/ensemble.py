"""The ensemble in this process: the same stages and weights, without a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.inference.triton import read_beyond, read_faces, read_rotation
from gateway.types import Analysis, Weights
from tools.errors import WeightsError
from tools.importing.dry_run import Trial
from tools.registry.repository import MODEL_FILE, versions
from triton_python_backend import contract, stages
from triton_python_backend.asking import batched, read_canvases
from triton_python_backend.decoding import Pixels
from triton_python_backend.detection import Detections

Arrays = dict[str, npt.NDArray[Any]]
_FRAME: Final = (
    contract.FRAME_BOXES,
    contract.FRAME_LANDMARKS,
    contract.FRAME_CONFIDENCE,
    contract.FRAME_DETECTOR,
)
"""The detector's outputs, in their order, as the alignment stage knows them."""


class Ensemble:
    """The newest version of each ONNX stage of a repository. May be shared by threads."""

    def __init__(self, repository: Path) -> None:
        """Load them; raises WeightsError for a stage without a version that loads."""
        self.folders: dict[str, Path] = {}
        """The version's folder by name of the stage."""
        self._trials: dict[str, Trial] = {}
        for stage in contract.ONNX_STAGES:
            numbers = versions(repository / stage.name)
            if not numbers:
                raise WeightsError(f"{repository / stage.name} has no version")
            folder = self.folders[stage.name] = repository / stage.name / str(numbers[-1])
            path = folder / MODEL_FILE
            self._trials[stage.name] = Trial(path.read_bytes(), path)

    def analyse(self, image: bytes, look: contract.Look = contract.DEFAULT_LOOK) -> Analysis:
        """Answer as the server would, with embeddings and scores.

        Raises: InvalidImageError of the backend for bytes that cannot be decoded; WeightsError
            for a network that fails.
        """
        seen = dict(stages.preprocess_image({contract.IMAGE: _encoded(image)}))
        found = self._run(contract.DETECTION, {contract.CANVAS: seen.pop(contract.FRAME)})
        frame = zip(_FRAME, contract.DETECTION.outputs, strict=True)
        given = {name: found[tensor.name] for name, tensor in frame}
        aligned = stages.align_faces(
            {contract.IMAGE: _encoded(image), **seen, **given}, look, ask=self._ask
        )
        crops = aligned[contract.CROPS_OR_FILLER]
        embedded = self._run(contract.EMBEDDING_STAGE, {contract.CROPS: crops})
        scored = self._run(contract.SCORING, embedded)
        count = {contract.FACE_COUNT: aligned[contract.FACE_COUNT]}
        gathered = stages.gather_results({**embedded, **scored, **count})
        return Analysis(
            faces=read_faces({**aligned, **gathered}),
            detection=self._weights(contract.DETECTION, aligned[contract.DETECTOR]),
            embedding=self._weights(contract.EMBEDDING_STAGE, gathered[contract.SPACE]),
            scoring=self._weights(contract.SCORING, gathered[contract.HEAD]),
            beyond=read_beyond(aligned),
            rotation=read_rotation(aligned),
        )

    def _ask(self, canvases: Sequence[Pixels], *, detector: int) -> list[Detections]:
        batches = [np.stack(batch) for batch in batched(canvases)]
        answers = [self._run(contract.DETECTION, {contract.CANVAS: batch}) for batch in batches]
        return [found for answer in answers for found in read_canvases(answer)]

    def _run(self, stage: contract.Stage, given: Arrays) -> Arrays:
        names = [tensor.name for tensor in stage.outputs]
        return dict(self._trials[stage.name].run(given, names))

    def _weights(self, stage: contract.Stage, ids: npt.NDArray[Any]) -> Weights:
        identifier = contract.format_id(int(ids.reshape(-1)[0]))
        return Weights(identifier, self.folders[stage.name].name)


def _encoded(image: bytes) -> npt.NDArray[Any]:
    return np.array([image], dtype=np.object_)

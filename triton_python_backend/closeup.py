"""Part of stage 3 of 7: the detector is asked again where the frame leaves doubt.

The alignment stage asks `face_detection` through Triton, so that it is the served model that
answers, in the queue and batches of all others, and most images cost one pass.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from triton_python_backend import contract
from triton_python_backend.decoding import Picture
from triton_python_backend.detection import Detections
from triton_python_backend.preprocess import make_closeup

LATEST = -1


class CloseupError(RuntimeError):
    """The detector did not answer about the close-up; the text says why."""


class CloseupDetector:
    """Asks the detector that answered about the frame about the close-up, too."""

    def __init__(self, pb_utils: Any, repository: Path) -> None:
        """Ask through `pb_utils` (Triton's module of that name in a stub).

        repository: the folder of all stages, in which the detector's versions lie.
        """
        self._pb_utils = pb_utils
        self._versions = repository / contract.DETECTION.name

    def detect(self, picture: Picture, *, detector: int) -> Detections | None:
        """Faces in the close-up, in image pixels; None where that detector is not served any more.

        detector: id of the weights that answered about the frame. While two versions serve, one
        on trial or one being exchanged for another, the right one is looked for.

        Raises:
            CloseupError: if the stage fails.

        """
        canvas, letterbox = make_closeup(picture)
        for model, version in self._served():
            answer = self._ask(canvas[None], model, version)
            if int(answer[contract.DETECTOR].reshape(-1)[0]) == detector:
                found = Detections(
                    answer[contract.BOXES][0],
                    answer[contract.LANDMARKS][0],
                    answer[contract.CONFIDENCE][0],
                )
                return found.seen().to_image(letterbox, width=picture.width, height=picture.height)
        return None

    def _served(self) -> Iterator[tuple[str, int]]:
        stage = contract.DETECTION.name
        yield stage, LATEST
        candidate = contract.candidate_of(stage)
        if self._pb_utils.is_model_ready(candidate):
            yield candidate, LATEST
        numbers = [int(path.name) for path in self._versions.iterdir() if path.name.isdecimal()]
        for number in sorted(numbers, reverse=True):
            if self._pb_utils.is_model_ready(stage, str(number)):
                yield stage, number

    def _ask(self, canvas: Any, model: str, version: int) -> dict[str, Any]:
        pb_utils = self._pb_utils
        names = [tensor.name for tensor in contract.DETECTION.outputs]
        request = pb_utils.InferenceRequest(
            model_name=model,
            model_version=version,
            requested_output_names=names,
            inputs=[pb_utils.Tensor(contract.CANVAS, np.ascontiguousarray(canvas))],
        )
        response = request.exec()
        if response.has_error():
            raise CloseupError(response.error().message())
        get = pb_utils.get_output_tensor_by_name
        return {name: get(response, name).as_numpy() for name in names}

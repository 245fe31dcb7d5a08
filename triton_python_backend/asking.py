"""Part of stage 3 of 7: the detector is asked again where the frame leaves doubt.

The alignment stage asks `face_detection` through Triton, so that it is the served model that
answers, in the queue and batches of all others, and most images cost one pass.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from triton_python_backend import contract
from triton_python_backend.decoding import Pixels
from triton_python_backend.detection import Detections

LATEST: Final = -1
TOGETHER: Final = 4
"""Canvases in one request: the next image's frame waits for no more."""
AT_ONCE: Final = 2
"""Requests under way of one image, so that a lone caller's tiles have more than one core."""


class DetectorError(RuntimeError):
    """The detector did not answer when it was asked again; the text says why."""


class ServedDetector:
    """Asks the detector that answered about the frame about other canvases, too."""

    def __init__(self, pb_utils: Any, repository: Path) -> None:
        """Ask through `pb_utils` (Triton's module of that name in a stub).

        repository: the folder of all stages, in which the detector's versions lie.
        """
        self._pb_utils = pb_utils
        self._versions = repository / contract.DETECTION.name
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def ask(self, canvases: Sequence[Pixels], *, detector: int) -> list[Detections] | None:
        """Faces of each canvas, in its pixels; None where that detector is not served any more.

        canvases: [h,w,3] uint8 RGB each, edges multiples of 32. Neighbours of one size go together.
        detector: id of the weights that answered about the frame. While two versions serve, one
        on trial or one being exchanged for another, the right one is looked for.

        Raises:
            DetectorError: if the stage fails.

        """
        batches = list(batched(canvases))
        if len(batches) == 1:
            answers = [self._find(batches[0], detector)]
        else:
            answers = list(self._threads.map(lambda batch: self._find(batch, detector), batches))
        found: list[Detections] = []
        for answer in answers:
            if answer is None:
                return None
            found += answer
        return found

    def _find(self, canvases: Sequence[Pixels], detector: int) -> list[Detections] | None:
        stacked = np.stack(canvases)
        for model, version in self._served():
            answer = self._request(stacked, model, version)
            if int(answer[contract.DETECTOR].reshape(-1)[0]) == detector:
                return read_canvases(answer)
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

    def _request(self, canvases: Pixels, model: str, version: int) -> dict[str, Any]:
        pb_utils = self._pb_utils
        names = [tensor.name for tensor in contract.DETECTION.outputs]
        request = pb_utils.InferenceRequest(
            model_name=model,
            model_version=version,
            requested_output_names=names,
            inputs=[pb_utils.Tensor(contract.CANVAS, canvases)],
        )
        response = request.exec()
        if response.has_error():
            raise DetectorError(response.error().message())
        get = pb_utils.get_output_tensor_by_name
        return {name: get(response, name).as_numpy() for name in names}


def batched(canvases: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
    """Split into runs of neighbours of one size, at most `TOGETHER` each."""
    start = 0
    for end in range(1, len(canvases) + 1):
        full = end - start == TOGETHER
        if full or end == len(canvases) or canvases[end].shape != canvases[start].shape:
            yield canvases[start:end]
            start = end


def read_canvases(answer: dict[str, Any]) -> list[Detections]:
    """Split the detector's outputs into the faces of each canvas, without the filler rows."""
    rows = zip(
        answer[contract.BOXES],
        answer[contract.LANDMARKS],
        answer[contract.CONFIDENCE],
        strict=True,
    )
    return [Detections(*row).seen() for row in rows]

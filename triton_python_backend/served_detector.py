"""Part of stage 3 of 6: further calls of the detector, for images with an unclear frame.

The alignment stage calls `face_detection` through Triton, so that the served model runs, in the
same queue and batches as for all other requests. Most images need only the first pass.
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
"""Canvases in one request; more would delay the next image's frame."""
AT_ONCE: Final = 2
"""Concurrent requests for one image, so that a single caller's tiles use several cores."""


class DetectorError(RuntimeError):
    """A further call of the detector failed; the text says why."""


class ServedDetector:
    """Runs the detector that produced the frame's detections on further canvases."""

    def __init__(self, pb_utils: Any, repository: Path) -> None:
        """Create a client; `pb_utils` is Triton's module of that name in a stub.

        repository: the folder of all stages, with the detector's versions.
        """
        self._pb_utils = pb_utils
        self._versions = repository / contract.DETECTION.name
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def ask(self, canvases: Sequence[Pixels], *, detector: int) -> list[Detections] | None:
        """Detect faces on each canvas, in its pixels; None if that detector is no longer served.

        canvases: [h,w,3] uint8 RGB each, edges multiples of 32. Adjacent ones of one size share a
        request. detector: id of the weights that detected the frame's faces. While two versions
        serve (a trial or an exchange), the matching one is found by this id.

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
    """Group adjacent canvases of one size, at most `TOGETHER` in each group."""
    start = 0
    for end in range(1, len(canvases) + 1):
        full = end - start == TOGETHER
        if full or end == len(canvases) or canvases[end].shape != canvases[start].shape:
            yield canvases[start:end]
            start = end


def read_canvases(answer: dict[str, Any]) -> list[Detections]:
    """Split the detector's outputs by canvas, without the filler rows."""
    rows = zip(
        answer[contract.BOXES],
        answer[contract.LANDMARKS],
        answer[contract.CONFIDENCE],
        strict=True,
    )
    return [Detections(*row).seen() for row in rows]

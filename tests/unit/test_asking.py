"""The close-up is asked of the detector that answered about the frame (in Triton: integration)."""

from types import SimpleNamespace

import numpy as np
import pytest

from triton_python_backend import contract
from triton_python_backend.closeup import LATEST, CloseupDetector, CloseupError
from triton_python_backend.decoding import Picture


class Served:
    """Stands in for Triton's stub: versions of a detector, each with its id and one face."""

    def __init__(
        self, ids: dict[int, int], *, candidate: int | None = None, error: str = ""
    ) -> None:
        self.ids = ids
        self.candidate = candidate
        self.error = error
        self.asked: list[int | str] = []

    def is_model_ready(self, name: str, version: str = "") -> bool:
        if name == CANDIDATE:
            return self.candidate is not None
        assert name == contract.DETECTION.name
        return int(version) in self.ids

    @staticmethod
    def Tensor(name: str, array: np.ndarray) -> SimpleNamespace:  # noqa: N802 - Triton's name
        return SimpleNamespace(name=name, as_numpy=lambda: array)

    def InferenceRequest(  # noqa: N802 - Triton's name
        self, *, model_name, model_version, requested_output_names, inputs
    ) -> SimpleNamespace:
        assert inputs[0].as_numpy().shape == (1, 256, 320, 3)
        if model_name == CANDIDATE:
            self.asked.append("candidate")
            answered_by = self.candidate
        else:
            assert model_name == contract.DETECTION.name
            self.asked.append(model_version)
            answered_by = self.ids[max(self.ids) if model_version == LATEST else model_version]
        boxes = np.zeros((1, 256, 4), np.float32)
        boxes[0, 0] = [80, 60, 240, 180]
        tensors = {
            contract.BOXES: boxes,
            contract.LANDMARKS: np.zeros((1, 256, 5, 2), np.float32),
            contract.CONFIDENCE: np.eye(1, 256, dtype=np.float32),
            contract.DETECTOR: np.array([[answered_by]], np.int64),
        }
        assert set(requested_output_names) == set(tensors)
        response = SimpleNamespace(
            tensors=tensors,
            has_error=lambda: bool(self.error),
            error=lambda: SimpleNamespace(message=lambda: self.error),
        )
        return SimpleNamespace(exec=lambda: response)

    @staticmethod
    def get_output_tensor_by_name(response: SimpleNamespace, name: str) -> SimpleNamespace:
        return SimpleNamespace(as_numpy=lambda: response.tensors[name])


CANDIDATE = contract.candidate_of(contract.DETECTION.name)
PHOTO = Picture.whole(np.full((600, 800, 3), 90, np.uint8))


@pytest.fixture
def repository(tmp_path):
    for folder in ("1", "2", "3", "not-a-version"):
        (tmp_path / contract.DETECTION.name / folder).mkdir(parents=True)
    return tmp_path


def test_faces_are_told_in_pixels_of_the_image(repository):
    served = Served({3: 33})
    found = CloseupDetector(served, repository).detect(PHOTO, detector=33)
    np.testing.assert_allclose(found.boxes, [[0, 0, 800, 600]])
    assert served.asked == [LATEST]


def test_the_version_with_the_frames_weights_is_looked_for(repository):
    served = Served({1: 11, 3: 33})
    found = CloseupDetector(served, repository).detect(PHOTO, detector=11)
    assert len(found.boxes) == 1
    assert served.asked == [LATEST, 3, 1]


def test_the_detector_on_trial_is_looked_for(repository):
    served = Served({1: 11, 3: 33}, candidate=22)
    found = CloseupDetector(served, repository).detect(PHOTO, detector=22)
    assert len(found.boxes) == 1
    assert served.asked == [LATEST, "candidate"]


def test_weights_that_are_served_no_more_have_no_closeup(repository):
    assert CloseupDetector(Served({3: 33}), repository).detect(PHOTO, detector=11) is None


def test_an_error_of_the_stage_is_told(repository):
    with pytest.raises(CloseupError, match="out of memory"):
        CloseupDetector(Served({3: 33}, error="out of memory"), repository).detect(
            PHOTO, detector=33
        )

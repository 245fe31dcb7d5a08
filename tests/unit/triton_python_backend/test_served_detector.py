"""Canvases go to the detector that answered about the frame (tests/integration uses Triton)."""

from types import SimpleNamespace

import numpy as np
import pytest

from triton_python_backend import contract
from triton_python_backend.served_detector import LATEST, TOGETHER, DetectorError, ServedDetector


class Served:
    """A stand-in for Triton's stub: versions of a detector, each with its id and one face."""

    def __init__(
        self, ids: dict[int, int], *, candidate: int | None = None, error: str = ""
    ) -> None:
        self.ids = ids
        self.candidate = candidate
        self.error = error
        self.asked: list[int | str] = []
        self.shapes: list[tuple[int, ...]] = []

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
        canvases = inputs[0].as_numpy()
        rows = len(canvases)
        self.shapes.append(canvases.shape)
        if model_name == CANDIDATE:
            self.asked.append("candidate")
            answered_by = self.candidate
        else:
            assert model_name == contract.DETECTION.name
            self.asked.append(model_version)
            answered_by = self.ids[max(self.ids) if model_version == LATEST else model_version]
        boxes = np.zeros((rows, 256, 4), np.float32)
        boxes[:, 0] = [80, 60, 240, 180]
        # a canvas is recognised by its shade
        boxes[:, 0, 0] = canvases[:, 0, 0, 0]
        tensors = {
            contract.BOXES: boxes,
            contract.LANDMARKS: np.zeros((rows, 256, 5, 2), np.float32),
            contract.CONFIDENCE: np.tile(np.eye(1, 256, dtype=np.float32), (rows, 1)),
            contract.DETECTOR: np.full((rows, 1), answered_by, np.int64),
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


def canvases(*shades: int, size: tuple[int, int] = (256, 320)) -> list[np.ndarray]:
    return [np.full((*size, 3), shade, np.uint8) for shade in shades]


@pytest.fixture
def repository(tmp_path):
    for folder in ("1", "2", "3", "not-a-version"):
        (tmp_path / contract.DETECTION.name / folder).mkdir(parents=True)
    return tmp_path


def test_faces_come_in_pixels_of_their_canvas_without_filler_rows(repository):
    served = Served({3: 33})
    (found,) = ServedDetector(served, repository).ask(canvases(80), detector=33)
    np.testing.assert_allclose(found.boxes, [[80, 60, 240, 180]])
    assert served.asked == [LATEST]


def test_many_canvases_run_in_batches_of_one_size_and_return_in_order(repository):
    served = Served({3: 33})
    many = canvases(*range(10)) + canvases(10, 11, size=(64, 64))
    found = ServedDetector(served, repository).ask(many, detector=33)
    assert [int(each.boxes[0, 0]) for each in found] == list(range(12))
    rows = sorted((shape[0] for shape in served.shapes), reverse=True)
    assert rows == [TOGETHER, TOGETHER, 2, 2]
    assert sorted(shape[1:] for shape in served.shapes)[0] == (64, 64, 3)


def test_the_version_with_the_weights_of_the_frame_is_called(repository):
    served = Served({1: 11, 3: 33})
    found = ServedDetector(served, repository).ask(canvases(1), detector=11)
    assert len(found[0].boxes) == 1
    assert served.asked == [LATEST, 3, 1]


def test_the_detector_under_trial_is_called(repository):
    served = Served({1: 11, 3: 33}, candidate=22)
    found = ServedDetector(served, repository).ask(canvases(1), detector=22)
    assert len(found[0].boxes) == 1
    assert served.asked == [LATEST, "candidate"]


def test_weights_that_are_no_longer_served_give_no_answer(repository):
    detector = ServedDetector(Served({3: 33}), repository)
    assert detector.ask(canvases(1), detector=11) is None
    assert detector.ask(canvases(*range(9)), detector=11) is None


@pytest.mark.parametrize("count", [1, 9])
def test_an_error_of_the_stage_is_raised(repository, count):
    detector = ServedDetector(Served({3: 33}, error="out of memory"), repository)
    with pytest.raises(DetectorError, match="out of memory"):
        detector.ask(canvases(*range(count)), detector=33)

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from triton_python_backend import contract, stages
from triton_python_backend.decoding import Picture
from triton_python_backend.detection import Detections
from triton_python_backend.geometry import ARCFACE_TEMPLATE
from triton_python_backend.second_look import SecondLook


def encoded(pixels: np.ndarray) -> np.ndarray:
    return np.array([cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()], dtype=np.object_)


def detector_answer(*, faces: int, sure: float = 0.9) -> dict[str, np.ndarray]:
    rows = contract.MAX_CANDIDATES
    boxes = np.zeros((1, rows, 4), np.float32)
    landmarks = np.zeros((1, rows, 5, 2), np.float32)
    confidence = np.zeros((1, rows), np.float32)
    for face in range(faces):
        boxes[0, face] = [100 * face, 0, 100 * face + 50, 60 + face]
        landmarks[0, face] = ARCFACE_TEMPLATE / 2 + [100 * face, 0]
        confidence[0, face] = sure
    return {
        contract.FRAME_BOXES: boxes,
        contract.FRAME_LANDMARKS: landmarks,
        contract.FRAME_CONFIDENCE: confidence,
    }


def alignment_input(*, faces: int, sure: float = 0.9) -> dict[str, np.ndarray]:
    picture = Picture.whole(np.full((640, 640, 3), 90, np.uint8))
    return {
        contract.IMAGE: encoded(picture.pixels),
        contract.PIXELS: picture.pixels,
        contract.SIZE: np.array([640, 640, 1]),
        contract.FRAME_DETECTOR: np.array([[77]], np.int64),
        **detector_answer(faces=faces, sure=sure),
    }


def not_asked(canvases: Sequence[np.ndarray], *, detector: int) -> list[Detections]:
    raise AssertionError("a sure face needs no second look")


def sees_nothing(canvases: Sequence[np.ndarray], *, detector: int) -> list[Detections]:
    return [Detections.none()] * len(canvases)


def sees_a_large_face(canvases: Sequence[np.ndarray], *, detector: int) -> list[Detections]:
    """One face in the close-up; the image spans 80 to 240 both ways, and 4 pixels are one."""
    assert detector == 77
    if canvases[0].shape != (320, 320, 3):
        return [Detections.none()] * len(canvases)
    box = np.array([[82.5, 155, 232.5, 240]], np.float32)
    points = (ARCFACE_TEMPLATE * 0.75 + [105, 155])[None].astype(np.float32)
    return [Detections(box, points, np.array([0.9], np.float32))]


def test_preprocess_returns_its_outputs():
    pixels = np.random.default_rng(0).integers(0, 255, (30, 60, 3), dtype=np.uint8)
    outputs = stages.preprocess_image({contract.IMAGE: encoded(pixels)})
    assert set(outputs) == {tensor.name for tensor in contract.PREPROCESS.outputs}
    np.testing.assert_array_equal(outputs[contract.PIXELS], pixels)
    assert outputs[contract.FRAME].shape == (1, 320, 640, 3)
    assert outputs[contract.SIZE].tolist() == [60, 30, 1]


def test_alignment_of_four_faces_keeps_rows_together():
    outputs = stages.align_faces(alignment_input(faces=4), ask=not_asked)
    assert set(outputs) == {tensor.name for tensor in contract.ALIGNMENT.outputs}
    assert outputs[contract.BOXES][:, 0].tolist() == [300, 200, 100, 0]
    np.testing.assert_allclose(
        outputs[contract.LANDMARKS][:, 0, 0], ARCFACE_TEMPLATE[0, 0] / 2 + [300, 200, 100, 0]
    )
    assert outputs[contract.CROPS].shape == (4, 112, 112, 3)
    np.testing.assert_array_equal(outputs[contract.CROPS], outputs[contract.CROPS_OR_FILLER])
    assert outputs[contract.DETECTOR].tolist() == [77]


def test_no_face_gives_only_one_filler_crop():
    outputs = stages.align_faces(alignment_input(faces=0), ask=sees_nothing)
    for name in (contract.BOXES, contract.LANDMARKS, contract.CONFIDENCE, contract.CROPS):
        assert len(outputs[name]) == 0
    assert outputs[contract.CROPS_OR_FILLER].shape == (1, 112, 112, 3)


def test_the_closeup_adds_its_faces_where_no_face_is_sure():
    given = alignment_input(faces=2, sure=0.6)
    outputs = stages.align_faces(given, ask=sees_a_large_face)
    assert outputs[contract.BOXES][:, 2].tolist() == [610, 150, 50]


def test_without_the_detector_there_is_no_closeup():
    given = alignment_input(faces=2, sure=0.6)
    outputs = stages.align_faces(given, ask=lambda canvases, detector: None)
    assert outputs[contract.BOXES][:, 2].tolist() == [150, 50]


def test_a_reduced_picture_is_reassembled_from_the_tensors():
    image = np.random.default_rng(0).integers(0, 255, (2251, 3001, 3), dtype=np.uint8)
    data = np.array([cv2.imencode(".jpg", image)[1].tobytes()], dtype=np.object_)
    given = {contract.IMAGE: data, **detector_answer(faces=0)}
    given |= stages.preprocess_image(given) | {contract.FRAME_DETECTOR: np.array([[77]])}
    assert given[contract.PIXELS].shape == (1126, 1501, 3)
    shapes = []

    def look(canvases: Sequence[np.ndarray], *, detector: int) -> list[Detections]:
        shapes.extend(canvas.shape for canvas in canvases)
        return sees_nothing(canvases, detector=detector)

    stages.align_faces(given, contract.Look(rotation="off"), ask=look)
    # the close-up of 3001 x 2251, not of the reduced pixels
    assert shapes == [(256, 320, 3)]


def test_faces_beyond_the_requested_number_are_counted():
    outputs = stages.align_faces(
        alignment_input(faces=5), contract.Look(max_faces=2), ask=not_asked
    )
    assert len(outputs[contract.BOXES]) == len(outputs[contract.QUALITY]) == 2
    assert outputs[contract.BOXES][:, 0].tolist() == [400, 300]
    np.testing.assert_allclose(outputs[contract.FOUND_CONFIDENCE], [0.9] * 5)
    assert outputs[contract.FACE_COUNT].tolist() == [2]
    assert outputs[contract.ROTATION].tolist() == [0]


def test_results_of_no_face_have_no_rows():
    outputs = stages.gather_results(
        {
            contract.FACE_COUNT: np.array([0]),
            contract.EMBEDDING: np.ones((1, 128), np.float32),
            contract.SPACE: np.array([[5]]),
            contract.SCORE: np.array([[3.5]], np.float32),
            contract.HEAD: np.array([[6]]),
        }
    )
    assert outputs[contract.EMBEDDING].shape == (0, 128)
    assert outputs[contract.SCORE].shape == (0,)
    assert outputs[contract.SPACE].tolist() == [5]
    assert outputs[contract.HEAD].tolist() == [6]


@pytest.mark.parametrize("detail", ["standard", "high"])
def test_high_detail_is_deferred(detail):
    look = contract.Look(detail=detail)
    given = alignment_input(faces=2)
    outputs = stages.align_or_defer(given, look, ask=sees_nothing)
    assert isinstance(outputs, stages.Slow) == (detail == "high")
    if detail == "high":
        outputs = outputs.work()
    assert len(outputs[contract.BOXES]) == 2


@pytest.mark.parametrize("faces", [2, 0])
def test_alignment_waits_for_the_detector_beside_the_others(faces):
    # a sure face ends the search; without one the detector is asked again
    asked = []

    def look(canvases: Sequence[np.ndarray], *, detector: int) -> list[Detections]:
        asked.append(len(canvases))
        return sees_nothing(canvases, detector=detector)

    outputs = stages.align_or_defer(alignment_input(faces=faces), ask=look)
    assert not asked
    assert isinstance(outputs, stages.Beside) == (faces == 0)
    if faces == 0:
        outputs = outputs.work()
        assert asked
    assert len(outputs[contract.BOXES]) == faces


def test_the_detectors_own_confidences_decide_about_a_second_look():
    asked: list[int] = []

    def look_of(detector: int) -> SecondLook:
        asked.append(detector)
        return SecondLook(closeup_below=0.5, turned_below=0.5)

    inputs = alignment_input(faces=1, sure=0.6)
    # this detector is sure at 0.6
    found = stages.align_faces(inputs, ask=not_asked, second_look=look_of)
    assert asked == [77]
    assert found[contract.FACE_COUNT] == [1]
    with pytest.raises(AssertionError, match="second look"):
        stages.align_faces(inputs, ask=not_asked)

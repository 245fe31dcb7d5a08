import cv2
import numpy as np

from triton_python_backend import contract, stages
from triton_python_backend.geometry import ARCFACE_TEMPLATE
from triton_python_backend.preprocess import make_canvases


def encoded(pixels: np.ndarray) -> np.ndarray:
    return np.array([cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()], dtype=np.object_)


def detector_answer(prefix: str, *, faces: int) -> dict[str, np.ndarray]:
    rows = contract.MAX_CANDIDATES
    boxes = np.zeros((1, rows, 4), np.float32)
    landmarks = np.zeros((1, rows, 5, 2), np.float32)
    confidence = np.zeros((1, rows), np.float32)
    for face in range(faces):
        boxes[0, face] = [100 * face, 0, 100 * face + 50, 60 + face]
        landmarks[0, face] = ARCFACE_TEMPLATE / 2 + [100 * face, 0]
        confidence[0, face] = 0.9
    return {
        f"{prefix}_BOXES": boxes,
        f"{prefix}_LANDMARKS": landmarks,
        f"{prefix}_CONFIDENCE": confidence,
    }


def alignment_input(*, faces: int) -> dict[str, np.ndarray]:
    pixels = np.full((640, 640, 3), 90, np.uint8)
    canvases = make_canvases(pixels)
    boxes = (canvases.frame_letterbox, canvases.closeup_letterbox)
    return {
        contract.PIXELS: pixels,
        contract.LETTERBOX: np.array([[b.scale, b.pad_x, b.pad_y] for b in boxes], np.float32),
        contract.FRAME_DETECTOR: np.array([[77]], np.int64),
        **detector_answer("FRAME", faces=faces),
        **detector_answer("CLOSEUP", faces=0),
    }


def test_preprocess_gives_its_outputs():
    pixels = np.random.default_rng(0).integers(0, 255, (30, 60, 3), dtype=np.uint8)
    outputs = stages.preprocess_image({contract.IMAGE: encoded(pixels)})
    assert set(outputs) == {tensor.name for tensor in contract.PREPROCESS.outputs}
    np.testing.assert_array_equal(outputs[contract.PIXELS], pixels)
    assert outputs[contract.FRAME].shape == (1, 640, 640, 3)
    assert outputs[contract.CLOSEUP].shape == (1, 320, 320, 3)


def test_alignment_of_four_faces_keeps_rows_together():
    outputs = stages.align_faces(alignment_input(faces=4))
    assert set(outputs) == {tensor.name for tensor in contract.ALIGNMENT.outputs}
    assert outputs[contract.BOXES][:, 0].tolist() == [300, 200, 100, 0]
    np.testing.assert_allclose(
        outputs[contract.LANDMARKS][:, 0, 0], ARCFACE_TEMPLATE[0, 0] / 2 + [300, 200, 100, 0]
    )
    assert outputs[contract.CROPS].shape == (4, 112, 112, 3)
    np.testing.assert_array_equal(outputs[contract.CROPS], outputs[contract.CROPS_OR_FILLER])
    assert outputs[contract.DETECTOR].tolist() == [77]


def test_no_face_gives_no_rows_but_one_filler_crop():
    outputs = stages.align_faces(alignment_input(faces=0))
    for name in (contract.BOXES, contract.LANDMARKS, contract.CONFIDENCE, contract.CROPS):
        assert len(outputs[name]) == 0
    assert outputs[contract.CROPS_OR_FILLER].shape == (1, 112, 112, 3)


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

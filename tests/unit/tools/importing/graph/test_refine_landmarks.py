"""Landmarks refined by the second network of a detector's file."""

import numpy as np
import onnxruntime
import pytest

from tests.support import tiny_sources
from tools.importing.graph.average_landmarks import AVERAGED, PROPERTY
from tools.importing.graph.refine_landmarks import SIDE
from tools.importing.network import load_network
from tools.importing.stages import scrfd
from tools.training.landmarks.crops import cut, frames_of
from triton_python_backend.contract import DETECTION

REACH = 6
"""Distance from a cell to each side of its box in strides."""
POINTS = np.array([[-3, -2], [3, -1], [0, 0], [-4, 3], [1, 4]], np.float32)
"""Offsets of the landmarks from the cell in strides: a slightly turned face."""
SHAPE = (320, 640)


def make(folder, *, weights=None, own: float = 1.0, opset: int = 11):
    if weights is None:
        weights = np.zeros((3 * SIDE * SIDE, 10))
    path = tiny_sources.save_detector(
        folder / "det.onnx",
        distances=np.full((1, 4), REACH, np.float32),
        offsets=POINTS.reshape(1, 10),
        opset=opset,
    )
    return tiny_sources.add_refiner(path, weights=weights, own=own)


def detect(path, canvases: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes [N,256,4], landmarks [N,256,5,2] and confidences [N,256] of the stage."""
    graph = scrfd.prepare(load_network(path)).graph
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert {o.name for o in session.get_outputs()} == {t.name for t in DETECTION.outputs}
    found = session.run(["BOXES", "LANDMARKS", "CONFIDENCE"], {"CANVAS": canvases})
    return tuple(np.asarray(each) for each in found)


def scenery(*, batch: int = 1) -> np.ndarray:
    """Return canvases of noise, too dark in red to be a face."""
    rng = np.random.default_rng(4)
    return rng.integers(0, 150, (batch, *SHAPE, 3)).astype(np.uint8)


def light(canvas: np.ndarray, *, column: int, row: int, value: int = 205) -> np.ndarray:
    """Light a cell of stride 8; return the landmarks [5,2] of the detector alone."""
    canvas[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, 0] = value
    return np.array([8 * column, 8 * row]) + 8 * POINTS


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_a_refiner_without_effect_returns_the_landmarks(tmp_path, opset):
    canvases = scenery(batch=3)
    first, second = (light(canvases[0], column=c, row=20) for c in (10, 50))
    last = light(canvases[2], column=79, row=39)  # at the corner, and partly beyond it
    _, landmarks, confidence = detect(make(tmp_path, opset=opset), canvases)
    assert (confidence > 0).sum(axis=1).tolist() == [2, 0, 1]
    np.testing.assert_allclose(sorted(landmarks[0, :2].tolist()), [first, second], atol=1e-3)
    np.testing.assert_allclose(landmarks[2, 0], last, atol=1e-3)
    assert not landmarks[1].any()


def test_nothing_is_refined_where_no_face_is_found(tmp_path):
    _, landmarks, confidence = detect(make(tmp_path), scenery(batch=2))
    assert not confidence.any()
    assert not landmarks.any()


@pytest.mark.parametrize("opset", [11, 17])
def test_the_second_network_gets_the_upright_face_and_its_landmarks(tmp_path, opset):
    rng = np.random.default_rng(5)
    weights = rng.normal(0, 0.02, (3 * SIDE * SIDE, 10))
    canvases = scenery(batch=2)
    offered = [light(canvases[0], column=5, row=30), light(canvases[1], column=60, row=12)]
    boxes, landmarks, confidence = detect(
        make(tmp_path, weights=weights, own=0.5, opset=opset), canvases
    )
    assert (confidence > 0).sum(axis=1).tolist() == [1, 1]
    for index, points in enumerate(offered):
        frames = frames_of(boxes[index, :1], points[None].astype(np.float32))
        crop = (cut(canvases[index], frames)[0].transpose(2, 0, 1) - 127.5) / 128
        answer = frames.inward(points[None]) * 0.5 + (crop.reshape(-1) @ weights).reshape(1, 5, 2)
        expected = frames.outward(answer)[0]
        assert np.abs(expected - points).max() > 5
        np.testing.assert_allclose(landmarks[index, 0], expected, atol=0.02)


def test_refined_and_averaged_have_different_ids(tmp_path, monkeypatch):
    path = make(tmp_path)
    before = scrfd.prepare(load_network(path)).identity
    monkeypatch.setattr(scrfd, "SIDE", SIDE + 8)
    changed = scrfd.prepare(load_network(path)).identity
    assert before != changed


def test_ten_outputs_without_the_property_are_refused(tmp_path):
    import onnx

    path = make(tmp_path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {PROPERTY: AVERAGED})
    onnx.save(model, path)
    with pytest.raises(scrfd.WeightsError, match="10 output"):
        scrfd.prepare(load_network(path))

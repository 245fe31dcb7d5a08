"""Landmarks averaged over the rows of one face."""

import numpy as np
import onnxruntime
import pytest

from tests.support import tiny_sources
from tools.importing.graph.average_landmarks import AVERAGED, PROPERTY
from tools.importing.network import load_network
from tools.importing.stages import scrfd
from triton_python_backend.contract import DETECTION

REACH = 10
"""Distance from a cell to each side of its box in strides; boxes of neighbours overlap."""
OFFSETS = np.arange(10, dtype=np.float32)[None] / 4
HEIGHT, WIDTH = 320, 640


def make(folder, *, averaged: bool = True, opset: int = 11):
    path = tiny_sources.save_detector(
        folder / "det.onnx",
        distances=np.full((1, 4), REACH, np.float32),
        offsets=OFFSETS,
        opset=opset,
        metadata={PROPERTY: AVERAGED} if averaged else None,
    )
    return scrfd.prepare(load_network(path))


def detect(graph: bytes, canvases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return landmarks [N,256,5,2] and confidences [N,256]."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert {o.name for o in session.get_outputs()} == {t.name for t in DETECTION.outputs}
    return session.run(["LANDMARKS", "CONFIDENCE"], {"CANVAS": canvases})


def black(*, batch: int = 1) -> np.ndarray:
    return np.zeros((batch, HEIGHT, WIDTH, 3), np.uint8)


def light(canvas: np.ndarray, *, column: int, row: int, value: int) -> tuple[float, np.ndarray]:
    """Light a cell of stride 8; return its confidence and its landmarks [5,2]."""
    canvas[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, 0] = value
    logit = tiny_sources.LOGIT_SCALE * (value - 127.5) / 128 + tiny_sources.LOGIT_SHIFT
    points = np.array([8 * column, 8 * row]) + 8 * OFFSETS.reshape(5, 2)
    return float(1 / (1 + np.exp(-logit))), points


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_neighbours_are_weighted_by_their_confidence(tmp_path, opset):
    canvases = black()
    votes = [
        light(canvases[0], column=10, row=10, value=205),
        light(canvases[0], column=12, row=10, value=195),
        light(canvases[0], column=10, row=11, value=193),
    ]
    far, own = light(canvases[0], column=50, row=20, value=200)
    landmarks, confidence = detect(make(tmp_path, opset=opset).graph, canvases)
    np.testing.assert_allclose(confidence[0, :3], [votes[0][0], far, 0], atol=1e-5)
    weights = np.array([weight for weight, _ in votes])
    expected = sum(w * points for w, points in votes) / weights.sum()
    np.testing.assert_allclose(landmarks[0, 0], expected, atol=1e-3)
    np.testing.assert_allclose(landmarks[0, 1], own, atol=1e-3)


@pytest.mark.parametrize(("column", "row"), [(26, 20), (20, 26)])
def test_rows_with_little_overlap_or_confidence_do_not_count(tmp_path, column, row):
    canvases = black()
    _, own = light(canvases[0], column=20, row=20, value=205)
    light(canvases[0], column=column, row=row, value=200)  # overlaps by 0.54
    light(canvases[0], column=21, row=20, value=190)  # less than half sure
    landmarks, confidence = detect(make(tmp_path).graph, canvases)
    assert (confidence[0] > 0).sum() == 1
    np.testing.assert_allclose(landmarks[0, 0], own, atol=1e-3)


def test_images_of_a_batch_do_not_mix(tmp_path):
    canvases = black(batch=3)
    first = light(canvases[0], column=10, row=10, value=205)[1]
    last = light(canvases[2], column=11, row=10, value=200)[1]
    landmarks, confidence = detect(make(tmp_path).graph, canvases)
    assert (confidence > 0).sum(axis=1).tolist() == [1, 0, 1]
    np.testing.assert_allclose(landmarks[0, 0], first, atol=1e-3)
    np.testing.assert_allclose(landmarks[2, 0], last, atol=1e-3)
    assert not landmarks[1].any()
    assert not detect(make(tmp_path).graph, black())[0].any()


def test_the_id_depends_on_the_overlap(tmp_path, monkeypatch):
    before = make(tmp_path).identity
    monkeypatch.setattr(scrfd, "NEAR", 0.7)
    assert make(tmp_path).identity != before


def test_only_files_with_the_property_are_averaged(tmp_path):
    canvases = black()
    _, own = light(canvases[0], column=10, row=10, value=205)
    light(canvases[0], column=12, row=10, value=195)
    plain, averaged = make(tmp_path, averaged=False), make(tmp_path)
    np.testing.assert_allclose(detect(plain.graph, canvases)[0][0, 0], own, atol=1e-3)
    assert np.abs(detect(averaged.graph, canvases)[0][0, 0] - own).max() > 5
    assert plain.identity != averaged.identity

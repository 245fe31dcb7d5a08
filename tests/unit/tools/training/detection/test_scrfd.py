"""SCRFD's raw layout, read as in service: suppression, averages, mapping to the photo."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.support import tiny_sources
from tests.support.detections import detections
from tools.importing.graph.average_landmarks import AVERAGED, PROPERTY
from tools.importing.network import load_network
from tools.importing.stages.scrfd import prepare
from tools.training.detection.scrfd import (
    RawDetector,
    averaged,
    letterbox,
    pad_by_half,
    suppress,
)


def test_suppression_keeps_the_best_of_an_overlap() -> None:
    found = detections([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]], [0.6, 0.9, 0.7])
    kept = suppress(found)
    np.testing.assert_allclose(kept.scores, [0.9, 0.7])


def test_landmarks_are_averaged_over_the_rows_near_a_face() -> None:
    rows = detections([[0, 0, 100, 100], [10, 0, 110, 100], [0, 60, 100, 160]], [0.9, 0.6, 0.8])
    faces = detections([[0, 0, 100, 100], [300, 0, 400, 100]], [0.9, 0.7])
    found = averaged(faces, rows)
    np.testing.assert_allclose(found.landmarks[0], [[(50 * 0.9 + 60 * 0.6) / 1.5, 50]] * 5)
    np.testing.assert_allclose(found.landmarks[1], faces.landmarks[1])  # nothing near it
    np.testing.assert_allclose(found.boxes, faces.boxes)
    nobody = detections([], [])
    assert len(averaged(nobody, nobody)) == 0


@pytest.mark.parametrize("metadata", [{}, {PROPERTY: AVERAGED}])
def test_a_raw_network_answers_as_in_service(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tiny_sources.save_detector(
        tmp_path / "det.onnx",
        distances=np.full((1, 4), 10, np.float32),
        offsets=np.arange(10, dtype=np.float32)[None] / 4,
        order="sbk",
        metadata=metadata,
    )
    image = np.zeros((320, 320, 3), np.uint8)
    image[80:88, 80:88, 0], image[80:88, 96:104, 0] = 205, 200  # boxes that overlap
    found = RawDetector(path).detect(image, size=320)
    session = onnxruntime.InferenceSession(prepare(load_network(path)).graph)
    landmarks, scores = session.run(["LANDMARKS", "CONFIDENCE"], {"CANVAS": image[None]})
    assert len(found) == (scores > 0).sum() == 1
    np.testing.assert_allclose(found.landmarks[0], landmarks[0, 0], atol=1e-3)


def test_letterbox_and_padding_map_back() -> None:
    image = np.full((100, 60, 3), 9, np.uint8)
    canvas, scale = letterbox(image, 50)
    assert scale == 0.5
    assert (canvas[:50, :30] == 9).all()
    assert (canvas[:, 30:] == 0).all()
    padded = pad_by_half(image)
    assert padded.shape == (200, 120, 3)
    assert (padded[50:150, 30:90] == 9).all()
    assert padded.sum() == image.sum()

"""Imported SCRFD graphs against insightface's SCRFD: boxes and landmarks within 1 pixel."""

import numpy as np
import pytest

from tests.support.golden import Faces

pytestmark = pytest.mark.golden

PIXEL = 1.0
CONFIDENCE = 1e-3


def nearest(found: Faces, box: np.ndarray) -> int:
    return int(np.abs(found.boxes - box).max(axis=1).argmin())


def require_same(found: Faces, wanted: Faces) -> None:
    assert len(found.boxes) == len(wanted.boxes)
    rows = [nearest(found, box) for box in wanted.boxes]
    assert sorted(rows) == list(range(len(rows)))
    for row, box, landmarks, confidence in zip(
        rows, wanted.boxes, wanted.landmarks, wanted.confidence, strict=True
    ):
        np.testing.assert_allclose(found.boxes[row], box, rtol=0, atol=PIXEL)
        np.testing.assert_allclose(found.landmarks[row], landmarks, rtol=0, atol=PIXEL)
        np.testing.assert_allclose(found.confidence[row], confidence, rtol=0, atol=CONFIDENCE)


def test_every_face_is_where_insightface_finds_it(canvases, reference, detector, detector_name):
    for key, canvas in canvases.items():
        (found,) = detector(canvas[None])
        require_same(found, reference[detector_name, key])


def test_the_photos_show_what_they_shall(canvases, reference, detector_name):
    faces = {key: len(reference[detector_name, key].boxes) for key in canvases}
    assert faces["group-frame"] == 6
    assert faces["portrait-frame"] == 1
    assert faces["nothing-frame"] == 0
    wild = [count for key, count in faces.items() if key.startswith("wild")]
    assert len(wild) == 16
    assert min(wild) >= 1


@pytest.mark.parametrize("size", [640, 320])
def test_a_canvas_gives_the_same_alone_and_in_a_batch(canvases, detector, size):
    chosen = np.stack([canvas for canvas in canvases.values() if len(canvas) == size][:8])
    together = detector(chosen)
    assert len({len(faces.boxes) for faces in together}) > (size == 640)
    for canvas, found in zip(chosen, together, strict=True):
        (alone,) = detector(canvas[None])
        require_same(found, alone)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)

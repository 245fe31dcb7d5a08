import numpy as np
import pytest

from triton_python_backend.geometry import (
    ARCFACE_TEMPLATE,
    Letterbox,
    areas,
    overlaps,
    similarities,
)


def test_similarity_recovers_a_known_one():
    angle, scale, shift = 0.4, 1.7, np.array([3.0, -8.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (ARCFACE_TEMPLATE @ turn.T + shift).astype(np.float32)
    # each of several faces has its own, also beside an aligned one
    same, matrix = similarities(np.stack([moved, ARCFACE_TEMPLATE]), moved)
    np.testing.assert_allclose(same, np.eye(2, 3), atol=1e-6)
    np.testing.assert_allclose(matrix[:, :2], turn, atol=1e-4)
    np.testing.assert_allclose(matrix[:, 2], shift, atol=1e-3)


def test_similarity_never_mirrors():
    mirrored = ARCFACE_TEMPLATE * np.array([-1, 1], dtype=np.float32)
    assert np.linalg.det(similarities(mirrored[None], ARCFACE_TEMPLATE)[0, :, :2]) >= 0


def test_similarity_of_one_point_is_refused():
    with pytest.raises(ValueError, match="two different points"):
        similarities(np.stack([ARCFACE_TEMPLATE, np.zeros((5, 2), np.float32)]), ARCFACE_TEMPLATE)


def test_no_faces_give_no_similarities():
    assert similarities(np.zeros((0, 5, 2), np.float32), ARCFACE_TEMPLATE).shape == (0, 2, 3)


def test_letterbox_maps_back():
    box = Letterbox(scale=0.5, pad_x=10, pad_y=20)
    canvas = np.array([[10, 20], [60, 120]], dtype=np.float32)
    np.testing.assert_allclose(box.to_image(canvas), [[0, 0], [100, 200]])


def test_overlaps_and_areas_of_known_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 30]], dtype=np.float32)
    np.testing.assert_allclose(areas(boxes), [100, 100, 0])
    table = overlaps(boxes, boxes[:2])
    np.testing.assert_allclose(table, [[1, 1 / 3], [1 / 3, 1], [0, 0]], atol=1e-6)
    assert overlaps(boxes[:0], boxes).shape == (0, 3)

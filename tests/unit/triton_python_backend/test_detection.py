import numpy as np

from triton_python_backend.detection import (
    Detections,
    joined,
    merge,
    without_doubles,
)
from triton_python_backend.geometry import Letterbox, areas


def faces(*boxes: tuple[float, float, float, float], confidence: float = 0.9) -> Detections:
    table = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    centres = (table[:, None, :2] + table[:, None, 2:]) / 2
    landmarks = np.repeat(centres, 5, axis=1).astype(np.float32)
    return Detections(table, landmarks, np.full(len(table), confidence, np.float32))


def test_filler_rows_are_not_faces():
    detections = faces((0, 0, 10, 10), (0, 0, 0, 0))
    detections.confidence[1] = 0
    assert len(detections.seen().boxes) == 1


def test_boxes_are_mapped_and_clipped_landmarks_only_mapped():
    mapped = faces((-10, 10, 50, 110)).to_image(Letterbox(0.5, 0, 10), width=90, height=150)
    np.testing.assert_allclose(mapped.boxes, [[0, 0, 90, 150]])
    np.testing.assert_allclose(mapped.landmarks[0, 0], [40, 100])


def test_faces_outside_the_image_are_dropped():
    mapped = faces((0, 700, 50, 750)).to_image(Letterbox(1, 0, 0), width=100, height=100)
    assert mapped.boxes.shape == (0, 4)


def test_closeup_adds_only_large_faces_that_the_frame_missed():
    frame = faces((0, 0, 100, 100), confidence=0.8)
    closeup = faces((5, 5, 105, 105), (500, 500, 900, 1000), (300, 0, 400, 100))
    merged = merge(frame, closeup, width=1000, height=1000)
    np.testing.assert_allclose(merged.boxes, [[500, 500, 900, 1000], [0, 0, 100, 100]])
    np.testing.assert_allclose(merged.confidence, [0.9, 0.8])


def test_the_frame_wins_where_both_see_a_face():
    merged = merge(
        faces((0, 0, 800, 800), confidence=0.6), faces((9, 9, 805, 805)), width=1000, height=1000
    )
    np.testing.assert_allclose(merged.boxes, [[0, 0, 800, 800]])


def test_without_a_closeup_the_frame_is_the_answer():
    merged = merge(faces((0, 0, 10, 10), (5, 5, 90, 90)), None, width=100, height=100)
    np.testing.assert_allclose(merged.boxes, [[5, 5, 90, 90], [0, 0, 10, 10]])


def test_no_faces_remain_no_faces():
    merged = merge(faces(), faces(), width=10, height=10)
    assert merged.boxes.shape == (0, 4)
    assert merged.landmarks.shape == (0, 5, 2)


def test_faces_are_sorted_largest_first():
    sizes = np.random.default_rng(1).permutation(np.arange(1, 61))
    many = faces(*[(0, 0, size, size) for size in sizes])
    merged = merge(many, faces(), width=100, height=100)
    np.testing.assert_allclose(areas(merged.boxes), np.arange(60, 0, -1) ** 2)


def test_the_surest_of_overlapping_boxes_is_kept():
    tiles = joined(
        [
            faces((0, 0, 100, 100), confidence=0.8),
            faces((4, 4, 104, 104), (300, 0, 320, 20), confidence=0.9),
            faces((302, 0, 322, 20), confidence=0.6),
        ]
    )
    kept = without_doubles(tiles)
    np.testing.assert_allclose(kept.boxes, [[4, 4, 104, 104], [300, 0, 320, 20]])


def test_a_part_of_a_face_is_not_a_face():
    eye, face = faces((20, 20, 40, 40), confidence=0.6), faces((0, 0, 100, 100))
    assert len(without_doubles(joined([eye, face])).boxes) == 1
    # neither is a box that a coarse scale sees around sure faces
    crowd = faces(*[(30 * n, 0, 30 * n + 20, 20) for n in range(3)])
    around = faces((0, 0, 90, 90), confidence=0.6)
    assert len(without_doubles(joined([around, crowd])).boxes) == 3


def test_neighbours_are_kept():
    two = faces((0, 0, 100, 100), (60, 0, 160, 100))
    assert len(without_doubles(two).boxes) == 2
    assert len(without_doubles(Detections.none()).boxes) == 0

import cv2
import numpy as np
import pytest

from triton_python_backend.contract import QUALITY_COLUMNS
from triton_python_backend.quality import _HEAD, assess, head_pose, sharpness


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation by yaw, then pitch, then roll; x right, y down, z to the camera."""
    a, b, c = np.radians([yaw, pitch, roll])
    turn = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    nod = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    tilt = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    return np.array(tilt) @ np.array(nod) @ np.array(turn)


@pytest.mark.parametrize(
    ("angles", "slack"),
    [((0, 0, 0), 0.01), ((25, 0, 0), 0.01), ((0, -20, 0), 0.01), ((0, 0, 40), 0.01),
     ((20, 10, -25), 5), ((-30, -10, 60), 7)],
)  # fmt: skip
def test_pose_of_a_turned_head(angles, slack):
    points = (_HEAD @ rotation(*angles).T)[:, :2] * 30 + 100
    pose = head_pose(points[None].astype(np.float32))[0]
    np.testing.assert_allclose(pose, angles, atol=slack)


def test_a_nose_to_the_right_of_the_image_is_positive_yaw():
    points = _HEAD[None, :, :2].copy() * 30
    points[0, 2, 0] += 10
    assert head_pose(points)[0, 0] > 5


def test_blur_lowers_sharpness():
    face = np.random.default_rng(0).integers(0, 255, (112, 112), dtype=np.uint8)
    values = [sharpness(cv2.GaussianBlur(face, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.5 > values[-1]


def test_columns_follow_the_contract():
    crops = np.full((2, 112, 112, 3), 51, np.uint8)
    boxes = np.array([[0, 0, 50, 80], [10, 10, 20, 15]], np.float32)
    table = assess(crops, boxes, np.repeat(_HEAD[None, :, :2], 2, axis=0))
    assert table.shape == (2, len(QUALITY_COLUMNS))
    np.testing.assert_allclose(table[:, 0], [50, 5])
    np.testing.assert_allclose(table[:, 1], 0)
    np.testing.assert_allclose(table[:, 2], 0.2, atol=1e-3)


def test_no_face_gives_no_row():
    empty = np.zeros((0, 4), np.float32)
    table = assess(np.zeros((0, 112, 112, 3), np.uint8), empty, np.zeros((0, 5, 2), np.float32))
    assert table.shape == (0, len(QUALITY_COLUMNS))

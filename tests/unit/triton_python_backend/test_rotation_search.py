"""Small turned views: what they show, and which direction follows from them."""

import numpy as np
import pytest

from triton_python_backend.decoding import Picture
from triton_python_backend.detection import Detections, joined
from triton_python_backend.geometry import ARCFACE_TEMPLATE
from triton_python_backend.rotation_search import (
    DIRECTIONS,
    FACE_DIRECTIONS,
    FACE_SIDE,
    SIDES,
    find_direction,
    has_plain_corners,
    upright_confidence,
    views_of_face,
    views_of_picture,
)


def face(*, roll: float, confidence: float) -> Detections:
    """A face tilted clockwise by `roll` degrees."""
    angle = np.radians(roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (ARCFACE_TEMPLATE - 56) @ turn.T + 56
    return Detections(
        np.array([[0, 0, 112, 112]], np.float32),
        points[None].astype(np.float32),
        np.array([confidence], np.float32),
    )


def test_views_of_the_picture_turn_it_clockwise():
    pixels = np.zeros((600, 800, 3), np.uint8)
    pixels[:60, :, 0] = 255  # the top of the picture is red
    views = views_of_picture(Picture.whole(pixels))
    assert [view.shape[0] for view in views] == list(SIDES)
    for degrees, view in zip(DIRECTIONS, views, strict=True):
        rows, columns = np.nonzero(view[..., 0] > 127)
        side = len(view)
        x, y = columns.mean() - side / 2, rows.mean() - side / 2
        # upwards is 0, to the right is 90
        assert np.degrees(np.arctan2(x, -y)) % 360 == pytest.approx(degrees, abs=3)
        # the whole picture is there: it is as long as four fifths of its diagonal
        assert np.hypot(x, y) == pytest.approx(side * 0.27, abs=4)


def test_views_of_a_face_show_it_in_the_middle():
    pixels = np.zeros((600, 800, 3), np.uint8)
    pixels[500:560, 700:760] = 255
    box = np.array([700, 500, 760, 560], np.float32)
    for picture in (
        Picture.whole(pixels),
        Picture(np.ascontiguousarray(pixels[::4, ::4]), 800, 600, 4),
    ):
        views = views_of_face(picture, box)
        assert len(views) == len(FACE_DIRECTIONS)
        for view in views:
            assert view.shape == (FACE_SIDE, FACE_SIDE, 3)
            rows, columns = np.nonzero(view[..., 0] > 127)
            assert (rows.mean(), columns.mean()) == pytest.approx((63.5, 63.5), abs=3)
            assert len(rows) ** 0.5 == pytest.approx(FACE_SIDE / 2.4, abs=4)


def test_filled_corners_are_told_from_those_of_photos():
    photo = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    assert not has_plain_corners(Picture.whole(photo))
    for row, column in ((0, 0), (0, 70), (50, 0)):
        photo[row : row + 10, column : column + 10] = (row, 255, column)
    assert not has_plain_corners(Picture.whole(photo))
    photo[50:, 70:] = 128
    assert has_plain_corners(Picture.whole(photo))
    assert has_plain_corners(Picture.whole(np.zeros((1, 1, 3), np.uint8)))


@pytest.mark.parametrize(
    ("degrees", "roll", "wanted"),
    [
        (90, 0, 90),
        (90, 20, 90),
        (180, -25, 180),
        (45, 0, 45),
        (45, 35, 0),
        (45, -10, 60),
        (315, -30, 0),
        (315, 5, 315),
        (225, 10, 210),
        (270, 33, 240),
    ],
)
def test_the_surest_face_sets_the_direction(degrees, roll, wanted):
    answers = [face(roll=3, confidence=0.7), face(roll=roll, confidence=0.8), Detections.none()]
    assert find_direction([135, degrees, 0], answers, surer_than=0.65) == wanted


def test_faint_and_tilted_faces_set_no_direction():
    faint, tilted = face(roll=0, confidence=0.6), face(roll=60, confidence=0.9)
    assert find_direction([90, 180], [faint, tilted], surer_than=0.65) == 0


def test_tilted_faces_are_not_upright():
    both = joined([face(roll=60, confidence=0.9), face(roll=-30, confidence=0.7)])
    assert upright_confidence(both) == pytest.approx(0.7)
    assert upright_confidence(Detections.none()) == 0

"""A picture turned about its centre: where pixels move, and the mapping back."""

import numpy as np
import pytest

from triton_python_backend.decoding import Picture
from triton_python_backend.rotation import turn_picture

WIDTH, HEIGHT = 203, 301


def dot(x: int, y: int) -> np.ndarray:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[y - 1 : y + 2, x - 1 : x + 2] = 80
    pixels[y, x] = 255
    return pixels


def brightest(pixels: np.ndarray) -> tuple[int, int]:
    y, x = np.unravel_index(pixels[..., 0].argmax(), pixels.shape[:2])
    return int(x), int(y)


@pytest.mark.parametrize(
    ("degrees", "place"),
    [(0, (150, 40)), (90, (HEIGHT - 1 - 40, 150)), (180, (52, 260)), (270, (40, 52))],
)
def test_right_angles_move_pixels_clockwise(degrees, place):
    turned, turn = turn_picture(Picture.whole(dot(150, 40)), degrees, longest=100)
    assert brightest(turned.pixels) == place
    sides = (HEIGHT, WIDTH) if degrees in (90, 270) else (WIDTH, HEIGHT)
    assert (turned.width, turned.height) == sides
    np.testing.assert_allclose(turn.to_image(np.array([place], np.float32)), [[150, 40]])


@pytest.mark.parametrize("degrees", [45, 135, 200, 315])
@pytest.mark.parametrize("longest", [1000, 200])
def test_other_angles_keep_the_whole_picture_and_map_back(degrees, longest):
    turned, turn = turn_picture(Picture.whole(dot(150, 40)), degrees, longest=longest)
    place = np.array([brightest(turned.pixels)], np.float32)
    np.testing.assert_allclose(turn.to_image(place), [[150, 40]], atol=2)
    corners = np.array([[0, 0], [WIDTH - 1, 0], [0, HEIGHT - 1], [WIDTH - 1, HEIGHT - 1]])
    there = turn.from_image(corners.astype(np.float32))
    assert (there > -2).all()
    assert (there < [turned.width + 1, turned.height + 1]).all()
    np.testing.assert_allclose(turn.to_image(there), corners, atol=0.01)


@pytest.mark.parametrize("degrees", [90, 180, 45])
def test_a_reduced_picture_maps_back_to_pixels_of_the_image(degrees):
    small = np.zeros((51, 34, 3), np.uint8)
    small[20:22, 10:12] = 255
    # its last row and column extend beyond the image's
    picture = Picture(small, 135, 203, 4)
    turned, turn = turn_picture(picture, degrees, longest=1000)
    rows, columns = np.nonzero(turned.pixels[..., 0] > 127)
    middle = np.array([[columns.mean(), rows.mean()]], np.float32)
    back = turn.to_image(turned.letterbox.to_image(middle))
    # the middle of reduced pixels 10 and 11, 20 and 21
    np.testing.assert_allclose(back, [[43.5, 83.5]], atol=1.5)


def test_a_box_becomes_the_one_around_its_turned_ellipse():
    _, turn = turn_picture(Picture.whole(dot(150, 40)), 90, longest=1000)
    box = np.array([[20, 100, 60, 200]], np.float32)
    np.testing.assert_allclose(
        turn.boxes_to_image(box), [[100, HEIGHT - 1 - 60, 200, HEIGHT - 1 - 20]]
    )
    _, turn = turn_picture(Picture.whole(dot(150, 40)), 45, longest=1000)
    circle = np.array([[50, 60, 150, 160]], np.float32)
    turned = turn.boxes_to_image(circle)[0]
    # a circle's box keeps its size at every angle
    np.testing.assert_allclose(turned[2:] - turned[:2], [100, 100], atol=1e-3)

import cv2
import numpy as np
import pytest

from triton_python_backend.decoding import Picture
from triton_python_backend.preprocess import make_closeup, make_frame


def test_one_pixel_is_enough():
    picture = Picture.whole(np.zeros((1, 1, 3), np.uint8))
    assert make_frame(picture)[0].shape == (640, 640, 3)
    assert make_closeup(picture)[0].shape == (320, 320, 3)


@pytest.mark.parametrize(("width", "height"), [(1280, 886), (886, 1280), (300, 300), (2000, 10)])
def test_canvases_map_back_to_the_image(width, height):
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 255
    picture = Picture.whole(image)
    for canvas, box in (make_frame(picture), make_closeup(picture)):
        y, x = np.nonzero(canvas[..., 0] > 127)
        low = np.array([[x.min(), y.min()]], np.float32)
        high = np.array([[x.max() + 1, y.max() + 1]], np.float32)
        slack = 1.5 / box.scale
        np.testing.assert_allclose(box.to_image(low), [[0, 0]], atol=slack)
        np.testing.assert_allclose(box.to_image(high), [[width // 2, height // 2]], atol=slack)


def test_closeup_is_the_image_padded_by_half_its_size():
    closeup, _ = make_closeup(Picture.whole(np.full((400, 400, 3), 255, np.uint8)))
    assert (closeup[80:240, 80:240] == 255).all()
    assert closeup.sum(dtype=np.int64) == 160 * 160 * 3 * 255


@pytest.mark.parametrize(
    ("width", "height", "canvas"),
    [(800, 600, (480, 640)), (600, 800, (640, 480)), (1280, 886, (448, 640)), (2000, 9, (32, 640))],
)
def test_the_frame_ends_with_the_blocks_in_which_the_picture_ends(width, height, canvas):
    frame, _ = make_frame(Picture.whole(np.full((height, width, 3), 200, np.uint8)))
    assert frame.shape == (*canvas, 3)
    rows = int(640 * height / max(width, height))
    assert (frame[:rows, 0] == 200).all()
    assert not frame[rows:].any()


@pytest.mark.parametrize(("width", "height"), [(4240, 2935), (2935, 4240), (5122, 3001), (2571, 1)])
@pytest.mark.parametrize("canvas_of", [make_frame, make_closeup])
def test_a_reduced_picture_has_the_place_of_the_whole_one(width, height, canvas_of):
    # waves of eight pixels of the frame: a tenth of a pixel's shift is 10 levels of brightness
    waves = [
        128 + 127 * np.sin(np.arange(edge) * (2 * np.pi * 80 / max(width, height)))
        for edge in (height, width)
    ]
    whole = np.empty((height, width, 3), np.uint8)
    whole[..., 0], whole[..., 1] = waves[0][:, None], waves[1]
    whole[..., 2] = 0
    padded = cv2.copyMakeBorder(whole, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = cv2.resize(padded, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    expected, box = canvas_of(Picture.whole(whole))
    got, box_of_reduced = canvas_of(Picture(half, width, height, 2))
    assert box == box_of_reduced
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() < 5


@pytest.mark.parametrize(("width", "height"), [(1001, 669), (669, 1001), (985, 999)])
def test_places_in_the_closeup_map_back_up_to_its_edges(width, height):
    period = max(width, height) / 10  # 16 pixels of the close-up
    across = np.sin(np.arange(width) * (2 * np.pi / period))
    down = np.sin(np.arange(height) * (2 * np.pi / period))
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = 128 + 100 * across, 128 + 100 * down[:, None]
    closeup, box = make_closeup(Picture.whole(image))
    wide, high = int(width * box.scale), int(height * box.scale)
    row = closeup[int(box.pad_y) + high // 2, int(box.pad_x) :, 0][:wide]
    column = closeup[int(box.pad_y) :, int(box.pad_x) + wide // 2, 1][:high]
    for line in (row, column):
        last = np.arange(len(line))[-48:-2]
        # centres of pixels, in the image
        angle = ((last + 0.5) / box.scale - 0.5) * (2 * np.pi / period)
        waves = np.stack([np.sin(angle), np.cos(angle), np.ones_like(angle)], axis=1)
        (sine, cosine, _), *_ = np.linalg.lstsq(waves, line[last].astype(float), rcond=None)
        assert abs(np.arctan2(cosine, sine)) < 2 * np.pi / 16 * 0.1  # a tenth of a pixel


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(10_241, 7), (3, 10_247), (10_243, 6_829), (1, 1)])
def test_every_picture_fills_its_part_of_the_frame(width, height, reduction):
    stored = np.full((-(-height // reduction), -(-width // reduction), 3), 200, np.uint8)
    frame, _ = make_frame(Picture(stored, width, height, reduction))
    rows = max(int(640 * height / max(width, height)), 1)
    columns = max(int(640 * width / max(width, height)), 1)
    assert (frame[:rows, :columns] == 200).all()
    assert not frame[rows:].any()
    assert not frame[:, columns:].any()

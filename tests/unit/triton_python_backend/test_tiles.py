"""Tiles of a large picture: they cover it, places map back, cut faces are dropped."""

import numpy as np
import pytest

from triton_python_backend.contract import FRAME_SIZE
from triton_python_backend.decoding import Picture
from triton_python_backend.detection import Detections
from triton_python_backend.tiles import OVERLAP, busiest_tiles, make_tiles, starts


def faces(*boxes: tuple[float, float, float, float]) -> Detections:
    table = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(
        table, np.zeros((len(table), 5, 2), np.float32), np.full(len(table), 0.9, np.float32)
    )


@pytest.mark.parametrize("edge", [641, 1000, 1152, 1153, 5472, 10_000])
def test_tiles_cover_an_edge_and_share_enough(edge):
    found = starts(edge)
    assert found[0] == 0
    assert found[-1] + FRAME_SIZE == edge
    assert max(np.diff(found)) <= FRAME_SIZE - OVERLAP


def test_a_picture_that_fits_the_frame_needs_no_tiles():
    assert starts(640) == [0]
    assert list(make_tiles(Picture.whole(np.zeros((640, 500, 3), np.uint8)))) == []


def test_levels_end_where_the_frame_begins():
    tiles = list(make_tiles(Picture.whole(np.zeros((700, 2000, 3), np.uint8))))
    scales = [tile.letterbox.scale for tile in tiles]
    # 2000 x 700 in 4 x 2, 1000 x 350 in 2 x 1
    assert scales == [1.0] * 8 + [0.5] * 2
    assert {tile.canvas.shape for tile in tiles[:8]} == {(640, 640, 3)}
    # whole blocks of the detector
    assert {tile.canvas.shape for tile in tiles[8:]} == {(352, 640, 3)}


def test_places_on_every_tile_map_back_to_the_image():
    pixels = np.zeros((1300, 1500, 3), np.uint8)
    place = np.array([[733, 641]], np.float32)
    pixels[641 - 4 : 641 + 5, 733 - 4 : 733 + 5] = 255
    seen = 0
    for tile in make_tiles(Picture.whole(pixels)):
        rows, columns = np.nonzero(tile.canvas[..., 0] > 127)
        if len(rows) < (9 * tile.letterbox.scale - 1) ** 2:
            continue
        seen += 1
        middle = np.array([[columns.mean(), rows.mean()]], np.float32)
        np.testing.assert_allclose(tile.letterbox.to_image(middle), place, atol=1)
    assert seen >= 3


def test_faces_at_inner_edges_are_left_to_other_tiles():
    tiles = list(make_tiles(Picture.whole(np.zeros((640, 1152, 3), np.uint8))))
    left, right = tiles
    at_left, inside, at_right = (0, 100, 40, 150), (300, 0, 340, 50), (600, 100, 638, 150)
    found = faces(at_left, inside, at_right)
    np.testing.assert_allclose(left.whole_faces(found).boxes, [at_left, inside])
    np.testing.assert_allclose(right.whole_faces(found).boxes, [inside, at_right])


def test_a_face_as_large_as_the_overlap_allows_is_whole_on_some_tile():
    size = OVERLAP / 1.3
    made = make_tiles(Picture.whole(np.zeros((640, 2000, 3), np.uint8)))
    tiles = [tile for tile in made if tile.letterbox.scale == 1]
    for x in range(0, 2000 - int(size), 7):
        lefts = [x + tile.letterbox.pad_x for tile in tiles]
        whole = [
            len(tile.whole_faces(faces((left, 300, left + size, 400))).boxes)
            for tile, left in zip(tiles, lefts, strict=True)
        ]
        assert any(whole), x


def test_the_busiest_tiles_are_where_something_is():
    pixels = np.zeros((640, 3000, 3), np.uint8)
    pixels[200:400, 2500:2600] = np.random.default_rng(0).integers(0, 255, (200, 100, 3))
    chosen = busiest_tiles(Picture.whole(pixels), most=2)
    assert all(tile.canvas.max() > 100 for tile in chosen)

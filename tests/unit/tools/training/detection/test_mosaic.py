"""Mosaics: tiles fill the canvas, and boxes stay on their faces."""

import numpy as np
import pytest

from tools.training.detection import mosaic
from tools.training.detection.compose import Composer
from tools.training.detection.dataset import Scene
from tools.training.detection.mosaic import FEW, Mosaics, cut_out, cuts
from tools.training.detection.scrfd import ByteArray, Detections, FloatArray

FACE = np.array([60, 40, 110, 90], np.float32)
NONE = np.empty((0, 4), np.float32)


def marked(*boxes: FloatArray) -> ByteArray:
    """Return a dark picture with white boxes."""
    image = np.full((180, 240, 3), 30, np.uint8)
    for x1, y1, x2, y2 in np.asarray(boxes, int):
        image[y1:y2, x1:x2] = 230
    return image


def bounds(tile: ByteArray) -> FloatArray:
    """Return the box around the bright pixels."""
    rows, columns = np.nonzero(tile.mean(axis=2) > 130)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


def scene(name: str, image: ByteArray, *seen: tuple[FloatArray, float]) -> Scene:
    boxes = np.array([box for box, _ in seen], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in seen], np.float32)
    found = Detections(boxes, np.zeros((len(boxes), 5, 2), np.float32), scores)
    return Scene(name=name, image=image, seen=found, held_out=False)


@pytest.mark.parametrize("size", [256, FEW, 640])
def test_stretches_make_up_the_side(size):
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(50):
        stretches = cuts(rng, size)
        counts.add(len(stretches))
        assert [first for first, _ in stretches] == [0, *[last for _, last in stretches[:-1]]]
        assert stretches[-1][1] == size
        assert min(last - first for first, last in stretches) > size / 6
    assert counts == ({2} if size < FEW else {2, 3})


def test_a_box_stays_on_its_face_of_the_requested_size():
    flipped = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        tile, (box,) = cut_out(
            rng, marked(FACE), FACE[None], focus=0, target=80.0, shape=(120, 200)
        )
        assert tile.shape == (120, 200, 3)
        seen = bounds(tile)
        inside = np.clip(box, 0, [200, 120, 200, 120])
        np.testing.assert_allclose(seen, inside, atol=2)
        np.testing.assert_allclose(box[2:] - box[:2], 80, atol=2)
        flipped.add(box[0] + box[2] > 200)
    assert flipped == {False, True}


def test_a_tile_is_filled_even_if_the_face_becomes_larger():
    rng = np.random.default_rng(1)
    tile, (box,) = cut_out(rng, marked(FACE), FACE[None], focus=0, target=5.0, shape=(360, 300))
    assert tile.shape == (360, 300, 3)
    np.testing.assert_allclose(box[3] - box[1], 100, atol=2)  # the picture is doubled to fill it


def test_a_part_without_a_face_has_no_box():
    tile, boxes = cut_out(
        np.random.default_rng(2), marked(), NONE, focus=0, target=20.0, shape=(64, 48)
    )
    assert tile.shape == (64, 48, 3)
    assert boxes.shape == (0, 4)


def test_a_mosaic_leaves_every_face_to_the_teacher():
    sure, doubtful = (FACE, 0.9), (np.array([150, 100, 170, 120], np.float32), 0.3)
    people = scene("people", marked(sure[0], doubtful[0]), sure, doubtful)
    mosaics = Mosaics([people], [scene("empty", marked())], lambda *_: (marked(FACE), FACE, FACE))
    for seed in range(8):
        sample = mosaics.sample(np.random.default_rng(seed), 256)
        assert sample.image.shape == (256, 256, 3)
        assert sample.boxes.shape == (0, 4)
        assert sample.points.shape == (0, 5, 2)
        # bright pixels are in boxes, and boxes contain bright pixels
        bright = sample.image.mean(axis=2) > 150
        held = np.zeros_like(bright)
        for x1, y1, x2, y2 in np.clip(np.round(sample.ignored), 0, 256).astype(int):
            held[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3] = True
        assert not (bright & ~held).any()
        assert bright.sum() > 14 * 14


def test_surer_faces_of_the_teacher_are_shown_more_often(monkeypatch):
    shown = []

    def note(*_, focus, shape, **__):
        shown.append(focus)
        return np.zeros((*shape, 3), np.uint8), NONE

    monkeypatch.setattr(mosaic, "cut_out", note)
    people = scene("people", marked(FACE), (FACE, 0.3), (FACE, 0.9))
    mosaics = Mosaics([people], [scene("empty", marked())], lambda *_: (marked(FACE), FACE, FACE))
    monkeypatch.setattr(mosaic, "PEOPLED", 1.0)
    rng = np.random.default_rng(4)
    for _ in range(100):
        mosaics.sample(rng, 256)
    assert 0.85 < np.mean(shown) < 0.95  # 0.81 against 0.09


def test_mosaics_need_no_scenes_with_people():
    mosaics = Mosaics([], [scene("empty", marked())], lambda *_: (marked(FACE), FACE, FACE))
    assert len(mosaics.sample(np.random.default_rng(3), 640).ignored) > 0


@pytest.mark.parametrize("size", [256, 640])
def test_miniatures_fill_the_canvas_only_with_scenes_without_faces(size):
    people = scene("people", np.full((200, 300, 3), 255, np.uint8), (FACE, 0.9))
    empty = scene("empty", marked())

    def no_photo(*_: object) -> None:
        raise AssertionError("a photo was drawn")

    mosaics = Mosaics([people], [empty], no_photo)
    for seed in range(10):
        image = mosaics.without_faces(np.random.default_rng(seed), size)
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8
        assert image.mean() < 90  # none of the white scene


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (1.0, 30, 40)])
def test_backgrounds_are_miniatures_at_the_requested_rate(monkeypatch, share, least, most):
    drawn = []

    def note(_: Mosaics, __: np.random.Generator, size: int) -> ByteArray:
        drawn.append(size)
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr(Mosaics, "without_faces", note)
    composer = Composer([], [scene("empty", marked())], held_out=False, miniatures=share)
    rng = np.random.default_rng(0)
    for _ in range(40):  # some are plain or noisy fields
        composer._background(rng, 64)
    assert least <= len(drawn) <= most

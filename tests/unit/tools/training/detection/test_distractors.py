"""Distractors: drawn over any picture, always something, never the same."""

import numpy as np
import pytest

from tools.training.detection.compose import Composer
from tools.training.detection.dataset import Scene
from tools.training.detection.distractors import with_distractors
from tools.training.detection.scrfd import Detections

NOTHING = Detections(
    np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.float32)
)


@pytest.mark.parametrize("size", [64, 256, 640])
def test_distractors_change_only_a_part_of_the_picture(size):
    grey = np.full((size, size, 3), 77, np.uint8)
    shares = []
    for seed in range(25):
        out = with_distractors(grey, np.random.default_rng(seed))
        assert out.shape == grey.shape
        assert out.dtype == np.uint8
        shares.append((out != grey).any(axis=2).mean())
    assert (grey == 77).all()  # the function draws on a copy
    assert 0.0 < np.median(shares) < 0.7
    assert len(set(shares)) > 20


def test_a_seed_determines_the_picture():
    grey = np.full((128, 128, 3), 77, np.uint8)
    one, two = (with_distractors(grey, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(("share", "drawn_on"), [(0.0, False), (1.0, True)])
def test_backgrounds_get_distractors_on_request(share, drawn_on):
    scene = Scene("empty", np.full((200, 200, 3), 9, np.uint8), NOTHING, held_out=False)
    composer = Composer([], [scene], held_out=False, doodles=share)
    seen = []
    for seed in range(40):
        with_things = composer._background(np.random.default_rng(seed), 96)
        plain = composer._plain_background(np.random.default_rng(seed), 96)
        seen.append(bool((with_things != plain).any()))
    assert (sum(seen) > 30) == drawn_on
    assert drawn_on or not any(seen)

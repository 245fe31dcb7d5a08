"""Harsh light and covered faces: what changes, and what stays unchanged."""

import numpy as np
import pytest

from tools.training.detection.augment import covered, harshly_lit

GREY = np.full((90, 120, 3), 128, np.uint8)


def test_a_cover_hides_only_a_part_of_a_face() -> None:
    box = np.array([[40, 20, 80, 70]], np.float32)
    shares = []
    for seed in range(40):
        noise = np.random.default_rng(99).integers(0, 256, GREY.shape).astype(np.uint8)
        out = covered(noise, box, np.random.default_rng(seed))
        changed = (out != noise).any(axis=2)
        assert out.dtype == np.uint8
        inside = changed[5:90, 10:110]  # covers of brow and sides extend beyond the box
        assert changed.sum() == inside.sum()
        shares.append(changed[20:70, 40:80].mean())
    assert 0.3 < np.mean(np.array(shares) == 0) < 0.7  # every second face is unchanged
    assert 0.05 < max(shares) < 0.7  # no face is hidden completely


@pytest.mark.parametrize("box", [[-30, -30, 5, 5], [110, 80, 200, 200], [50, 50, 51, 51]])
def test_faces_cut_off_or_tiny_can_be_covered(box: list[float]) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert covered(GREY, np.array([box], np.float32), rng).shape == GREY.shape


def test_harsh_light_differs_over_the_picture_and_often_in_colour() -> None:
    coloured = 0
    for seed in range(40):
        out = harshly_lit(GREY, np.random.default_rng(seed))
        assert out.shape == GREY.shape
        assert out.dtype == np.uint8
        corners = out[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
        assert np.ptp(corners[:, 0]) > 5
        coloured += int(np.ptp(corners[0]) > 3)
    assert 10 < coloured < 35

"""Splits, alignment and statistics of the training tools."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.views import CLEAN
from tools.evaluation.statistics import pearson, regression_report, with_interval
from tools.evaluation.verification import accuracy_at_best
from tools.evaluation.views import CROP, Recipe, fill_backdrop, make_batch
from tools.training.embedding.crops import MARGIN, TEMPLATE, align, similarity_transform
from tools.training.embedding.evaluate import hardest_others
from tools.training.embedding.faces import SAME_PERSON, split


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 64)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def photos(count: int, *, tested: int = 0) -> list[dict[str, object]]:
    source = ["mebeauty"] * tested + ["utkface"] * (count - tested)
    return [
        {"source": name, "split": "test" if name == "mebeauty" else "", "race": "a",
         "gender": "b", "age": "c"}
        for name in source
    ]  # fmt: skip


def test_no_training_face_is_like_a_held_out_or_test_face() -> None:
    rows = unit_rows(400)
    rows[200:] = rows[:200]  # every face has a twin
    train, held_out, related = split(rows, photos(400, tested=40))
    kept_back = np.concatenate([held_out, np.arange(40)])
    assert (rows[train] @ rows[kept_back].T).max() < SAME_PERSON
    assert set(kept_back).isdisjoint(train)
    twins = (kept_back + 200) % 400
    assert set(twins) <= set(related) | set(kept_back)
    assert len(train) + len(related) + len(kept_back) == 400


def test_the_transform_finds_a_known_rotation() -> None:
    angle, zoom, shift = 0.4, 1.7, np.array([12.0, -5.0])
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (TEMPLATE @ turn.T + shift).astype(np.float32)
    matrix = similarity_transform(TEMPLATE, moved)
    np.testing.assert_allclose(matrix, np.hstack([turn, shift[:, None]]), atol=1e-3)


def test_an_aligned_photo_has_its_landmarks_on_the_template() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    points = TEMPLATE * 2 + 30
    for x, y in points.round().astype(int):
        image[y - 3 : y + 4, x - 3 : x + 4] = 255
    crop = align(image, points)
    assert crop.shape == (CROP, CROP, 3)
    for x, y in (TEMPLATE + MARGIN).round().astype(int):
        assert crop[y, x].min() > 200


def test_a_clean_view_is_the_middle_of_the_crop() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (3, CROP, CROP, 3), dtype=np.uint8)
    rng = np.random.default_rng(0)
    views, flips = make_batch(crops, np.array([2, 0]), side=112, recipe=CLEAN, rng=rng)
    assert not flips.any()
    np.testing.assert_array_equal(views, crops[[2, 0], MARGIN:-MARGIN, MARGIN:-MARGIN])


def test_views_come_again_from_the_same_seed() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (8, CROP, CROP, 3), dtype=np.uint8)
    rows = np.arange(8)
    first, again, other = (
        make_batch(crops, rows, side=64, recipe=Recipe(), rng=np.random.default_rng(seed))[0]
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_only_black_pixels_get_a_backdrop() -> None:
    crop = np.full((CROP, CROP, 3), 90, np.uint8)
    crop[:20] = 0
    other = np.full_like(crop, 200)
    filled = fill_backdrop(crop, other, rng=np.random.default_rng(0))
    assert (filled[20:] == 90).all()
    assert (filled[:20] != 0).any()


def test_hardest_other_is_alike_but_another_person() -> None:
    rows = unit_rows(4)
    rows[1] = rows[0] * 0.4 + rows[1] * 0.9165  # alike, below the bound for one person
    rows[2] = rows[0]  # the same person
    found = hardest_others(rows, photos(4))
    assert found[0] == 1


def test_accuracy_of_separable_and_of_mixed_pairs() -> None:
    clear, threshold = accuracy_at_best(np.array([0.6, 0.7]), np.array([0.1, 0.3]))
    assert clear == 1.0
    assert threshold == pytest.approx(0.6)
    mixed, _ = accuracy_at_best(np.array([0.2, 0.7]), np.array([0.1, 0.3]))
    assert mixed == 0.75


def test_an_interval_holds_its_value_and_narrows_with_rows() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (50, 5000):
        truth = rng.normal(size=count)
        found = with_interval(pearson, truth + rng.normal(size=count), truth, rounds=300)
        assert found["low"] < found["value"] < found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[1] < widths[0] / 4


def test_the_report_covers_all_and_each_group() -> None:
    actual = np.linspace(1, 10, 60)
    predicted = actual + np.where(np.arange(60) < 20, 1.0, -0.5)
    first = np.arange(60) < 20
    report = regression_report(predicted, actual, [("first", first), ("rest", ~first)])
    assert [entry["n"] for entry in report.values()] == [60, 20, 40]
    assert report["first"]["mean_error"] == pytest.approx(1.0)
    assert report["rest"]["mae"]["value"] == pytest.approx(0.5)

"""Pairs of held-out photos; the teacher decides which show one person."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tools.evaluation.pairs import read_pairs
from tools.training.embedding import pairs as pairing
from tools.training.embedding.crops import Photo
from tools.training.embedding.faces import SAME_PERSON, load_faces
from tools.training.embedding.pairs import choose_pairs, write_pairs

PEOPLE, TESTED = 120, 10


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return two photos of each person, some of a test split; the second ones are similar."""
    rng = np.random.default_rng(2)
    first = rng.normal(size=(PEOPLE, 64))
    second = first + 0.6 * rng.normal(size=first.shape)
    second[0] = first[0]  # one photo twice
    rows = np.concatenate([first, second]).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    folder = tmp_path / "cache"
    folder.mkdir()
    np.save(folder / "crops.npy", np.zeros((2 * PEOPLE, 1, 1, 3), np.uint8))
    np.save(folder / "teacher.npy", np.stack([rows, rows], 1))
    photos = [
        {
            "source": "mebeauty" if row < TESTED else "utkface",
            "split": "test" if row < TESTED else "",
            "age": "0s" if row % 5 == 4 else "30s",
            "index": 3 * row,
        }
        for row in range(2 * PEOPLE)
    ]
    (folder / "photos.json").write_text(json.dumps({"photos": photos, "missed": 0}))
    return folder


def test_pairs_use_held_out_photos_and_the_decision_of_the_teacher(cache):
    faces = load_faces(cache)
    same, different = choose_pairs(faces, different=300)
    assert set(np.concatenate([same, different]).ravel()).isdisjoint(faces.train)
    assert len(same) > TESTED / 2
    assert "0s" not in {
        faces.photos[row]["age"] for row in np.concatenate([same, different]).ravel()
    }
    np.testing.assert_array_equal(same[:, 0] % PEOPLE, same[:, 1] % PEOPLE)
    assert set(range(TESTED)) & set(same[:, 0])
    assert 0 not in same
    assert len(different) == len(np.unique(np.sort(different, axis=1), axis=0)) == 300
    assert (different[:, 0] != different[:, 1]).all()
    cosines = (faces.teacher[different[:, 0], 0] * faces.teacher[different[:, 1], 0]).sum(1)
    assert cosines.max() < SAME_PERSON


def test_photos_are_beside_the_pairs_file(cache, tmp_path, monkeypatch):
    photo = Photo("utkface", "name", "", "", "", "", float("nan"), "")
    monkeypatch.setattr(
        pairing, "read_photos", lambda _: ((photo, b"%d" % i) for i in range(6 * PEOPLE))
    )
    path = write_pairs(data=tmp_path, cache=cache, out=tmp_path / "out", different=50)
    read = read_pairs(path)
    assert {pair.same for pair in read} == {True, False}
    with path.open() as file:
        assert len(list(csv.reader(file))) == len(read) + 1
    for pair in read:
        for name in (pair.a, pair.b):
            assert name.read_bytes() == b"%d" % (3 * int(name.stem))

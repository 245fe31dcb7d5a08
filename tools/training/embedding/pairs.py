"""Pairs of held-out photos for `aurum models calibrate` of the built-in embedder.

Identities are not labelled, so the teacher decides, and its errors count as truth: photos that it
finds similar (but that are not the same photo) are of one person, others of different people. None
was used for training. The service itself measures the rates, on the unchanged photos.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tools.training.embedding.crops import read_photos
from tools.training.embedding.evaluate import DUPLICATE
from tools.training.embedding.faces import SAME_PERSON, Faces, load_faces

SEED = 41

CHILDREN = frozenset({"0-2", "3-9", "10-19", "0s", "10s"})
"""Excluded ages, as the sets write them: the teacher confuses small children."""

Rows = NDArray[np.int64]


def choose_pairs(faces: Faces, *, different: int) -> tuple[Rows, Rows]:
    """Choose the most similar pairs of one person [N,2] and random pairs of two people [M,2].

    All are adults; there are at most `different` pairs of different people.
    """
    adult = np.array([photo["age"] not in CHILDREN for photo in faces.photos])
    tested = [row for row, photo in enumerate(faces.photos) if photo["split"] == "test"]
    held = np.unique(np.concatenate([faces.held_out, np.array(tested, np.int64)]))
    held, related = held[adult[held]], faces.related[adult[faces.related]]
    teacher = faces.teacher[:, 0]
    similar = teacher[held] @ teacher[related].T
    near = similar.argmax(1) if similar.size else np.zeros(0, np.int64)
    score = similar[np.arange(len(near)), near]
    same = (score >= SAME_PERSON) & (score < DUPLICATE)
    rng = np.random.default_rng(SEED)
    drawn = np.sort(rng.integers(0, len(held), (2 * different, 2)), axis=1)
    drawn = np.unique(drawn[drawn[:, 0] < drawn[:, 1]], axis=0)
    drawn = held[rng.permutation(drawn)]
    apart = (teacher[drawn[:, 0]] * teacher[drawn[:, 1]]).sum(1) < SAME_PERSON
    ours = np.stack([held[: len(near)][same], related[near[same]]], axis=1)
    return ours, drawn[apart][:different]


def write_pairs(*, data: Path, cache: Path, out: Path, different: int) -> Path:
    """Writes the photos of the pairs and `pairs.csv` into `out`; returns the CSV's path."""
    faces = load_faces(cache)
    same, apart = choose_pairs(faces, different=different)
    wanted = {
        faces.photos[row]["index"]: int(row) for row in np.unique(np.concatenate([same, apart]))
    }
    out.mkdir(parents=True, exist_ok=True)
    for index, (_, encoded) in enumerate(read_photos(data)):
        if index in wanted:
            (out / f"{wanted[index]}.jpg").write_bytes(encoded)
    path = out / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_a", "image_b", "same"])
        for pairs, label in ((same, 1), (apart, 0)):
            writer.writerows((f"{a}.jpg", f"{b}.jpg", label) for a, b in pairs)
    return path

"""The cached faces and their split: no person of the held-out part is in the training part.

Identities are not labelled, so the teacher's similarity decides: a training face similar to any
held-out or test face is excluded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELD_OUT = 1500
"""Number of held-out faces, drawn from FairFace and UTKFace."""

SAME_PERSON = 0.6
"""Teacher similarity from which a training face counts as a person of the held-out part."""

SPLIT_SEED = 20


@dataclass(frozen=True, slots=True)
class Faces:
    """The cached faces."""

    crops: NDArray[np.uint8]
    """[M,CROP,CROP,3] uint8 RGB, memory-mapped."""
    teacher: NDArray[np.float32]
    """[M,2,D] float32 unit length: clean and mirrored view."""
    photos: list[dict[str, Any]]
    """Labels of each row (fields of `crops.Photo`)."""
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    related: NDArray[np.int64]
    """Rows excluded from training because they resemble a held-out or test face."""
    mixed: NDArray[np.float32]
    """[K,2,D] float32 unit length, as `teacher`, of mixtures of training faces; K may be 0."""


def load_faces(cache: Path) -> Faces:
    """Open a cache written by `crops` and split it, always in the same way."""
    crops = np.load(cache / "crops.npy", mmap_mode="r")
    teacher = np.load(cache / "teacher.npy")
    photos = json.loads((cache / "photos.json").read_text())["photos"]
    train, held_out, related = split(teacher[:, 0], photos)
    path = cache / "mixed.npy"
    mixed = np.load(path) if path.exists() else teacher[:0]
    return Faces(crops, teacher, photos, train, held_out, related, mixed)


def split(
    embeddings: NDArray[np.float32], photos: list[dict[str, Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows for training, held out, and left out as related.

    Args:
        embeddings: [M,D] float32 unit length, by the teacher.
        photos: M descriptions; MEBeauty's test split is never used for training.
    """
    source = np.array([photo["source"] for photo in photos])
    test = np.array([photo["split"] == "test" for photo in photos])
    candidates = np.flatnonzero(source != "mebeauty")
    if not len(candidates):
        candidates = np.flatnonzero(~test)
    count = min(HELD_OUT, len(candidates) // 8)
    held_out = np.sort(np.random.default_rng(SPLIT_SEED).choice(candidates, count, replace=False))
    kept_back = np.concatenate([held_out, np.flatnonzero(test)])
    free = np.ones(len(photos), bool)
    free[kept_back] = False
    rest = np.flatnonzero(free)
    nearest = np.concatenate(
        [
            (embeddings[rest[start : start + 4096]] @ embeddings[kept_back].T).max(1)
            for start in range(0, len(rest), 4096)
        ]
    )
    return rest[nearest < SAME_PERSON], held_out, rest[nearest >= SAME_PERSON]

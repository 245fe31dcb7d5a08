"""Evaluation of an embedder on held-out faces, with the teacher's values for comparison.

The photos have no identity labels, so two substitutes are measured. Made pairs: two differently
degraded views of one held-out face against the most similar other face of the same race, gender and
age group. Found pairs: a held-out face and a training-set photo that the teacher considers the same
person, and that was therefore excluded from training.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tools.evaluation.statistics import with_interval
from tools.evaluation.verification import OTHER_PERSON, accuracy_at_best
from tools.evaluation.views import VIEW, Recipe, make_batch
from tools.training.embedding.crops import embed, open_session
from tools.training.embedding.faces import Faces, load_faces

Floats = NDArray[np.float32]

DUPLICATE = 0.9
"""Teacher similarity from which two photos count as the same photo."""


def hardest_others(teacher: Floats, photos: Sequence[dict[str, Any]]) -> NDArray[np.int64]:
    """For each face the most similar one of its own race, gender and age group, or -1."""
    kind = np.array([f"{p['race']}/{p['gender']}/{p['age']}/{p['source']}" for p in photos])
    similar = teacher @ teacher.T
    similar[(kind[:, None] != kind[None]) | (similar >= OTHER_PERSON)] = -2
    best = similar.argmax(1)
    found: NDArray[np.int64] = np.where(similar[np.arange(len(best)), best] > -2, best, -1)
    return found


def embed_rows(
    session: ort.InferenceSession, crops: NDArray[np.uint8], rows: NDArray[np.int64]
) -> Floats:
    """Unit-length embeddings [N,D] of the given rows' clean views."""
    parts = [
        embed(session, np.asarray(crops[rows[start : start + 32]]))
        for start in range(0, len(rows), 32)
    ]
    return np.concatenate(parts)


def degraded(
    session: ort.InferenceSession, faces: Faces, rows: NDArray[np.int64], seed: int
) -> Floats:
    """Unit-length embeddings [N,D] of one degraded view of each row."""
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, len(rows), 32):
        chosen = rows[start : start + 32]
        views, _ = make_batch(faces.crops, chosen, side=VIEW, recipe=Recipe(), rng=rng)
        parts.append(embed(session, views))
    return np.concatenate(parts)


def verification(session: ort.InferenceSession, faces: Faces, clean: Floats) -> dict[str, Any]:
    """Accuracy on made and on found pairs; `clean` are this network's held-out embeddings."""
    held = faces.held_out
    teacher = faces.teacher[held, 0]
    other = hardest_others(teacher.copy(), [faces.photos[row] for row in held])
    paired = other >= 0
    first, second = (degraded(session, faces, held, seed) for seed in (11, 12))
    made, made_at = accuracy_at_best(
        (first * second).sum(1)[paired], (first[paired] * second[other[paired]]).sum(1)
    )
    similar = teacher @ faces.teacher[faces.related, 0].T
    near = similar.argmax(1)
    score = similar[np.arange(len(held)), near]
    same = (score >= 0.6) & (score < DUPLICATE)
    related = embed_rows(session, faces.crops, faces.related[near[same]])
    found, found_at = accuracy_at_best(
        (clean[same] * related).sum(1), (clean[paired] * clean[other[paired]]).sum(1)
    )
    return {
        "made_pairs": {"accuracy": made, "threshold": made_at, "n": int(2 * paired.sum())},
        "found_pairs": {
            "accuracy": found,
            "threshold": found_at,
            "same": int(same.sum()),
            "other": int(paired.sum()),
        },
    }


def milliseconds(session: ort.InferenceSession, *, rounds: int = 60) -> float:
    """Median processor time of one face on one thread, milliseconds."""
    view = np.random.default_rng(0).normal(0, 0.5, (1, 3, VIEW, VIEW)).astype(np.float32)
    name = session.get_inputs()[0].name
    spent = []
    for _ in range(rounds):
        begun = time.process_time()
        session.run(None, {name: view})
        spent.append(time.process_time() - begun)
    return float(np.median(spent[rounds // 4 :]) * 1000)


def by_group(values: NDArray[np.float64], photos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and count of [N] values for each race and gender with 20 faces or more."""
    found: dict[str, Any] = {}
    for key in ("race", "gender"):
        column = np.array([photo[key] for photo in photos])
        for name in sorted(set(column) - {""}):
            rows = column == name
            if rows.sum() >= 20:
                found[f"{key} {name}"] = {
                    "n": int(rows.sum()),
                    "mean": float(values[rows].mean()),
                }
    return found


def measure_embedder(path: Path, *, cache: Path, teacher: Path) -> dict[str, Any]:
    """Measure all values of the model card for a raw student ONNX."""
    faces = load_faces(cache)
    session, teaching = open_session(path), open_session(teacher)
    held = faces.held_out
    clean, target = embed_rows(session, faces.crops, held), faces.teacher[held, 0]
    mirrored = embed(session, np.asarray(faces.crops[held[:64]])[:, :, ::-1])
    above = np.triu_indices(len(held), 1)
    sources = np.array([faces.photos[row]["source"] for row in held])
    cosine = (clean * target).sum(1).astype(np.float64)
    return {
        "stage": "face_embedding",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "faces": {
            "train": len(faces.train),
            "held_out": len(held),
            "left_out": len(faces.related),
        },
        "cosine_to_teacher": with_interval(lambda a, _: float(a.mean()), cosine, cosine),
        "cosine_by_source": {
            name: float(cosine[sources == name].mean()) for name in sorted(set(sources))
        },
        "cosine_by_group": by_group(cosine, [faces.photos[row] for row in held]),
        "cosine_of_mirror_image": float((clean[:64] * mirrored).sum(1).mean()),
        "similarity_correlation": float(
            np.corrcoef((clean @ clean.T)[above], (target @ target.T)[above])[0, 1]
        ),
        "verification": {
            "student": verification(session, faces, clean),
            "teacher": verification(teaching, faces, target),
        },
        "milliseconds_per_face": {
            "student": milliseconds(session),
            "teacher": milliseconds(teaching),
        },
    }

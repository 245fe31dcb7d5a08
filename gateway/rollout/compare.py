"""How two analyses of one image differ, face by face."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.types import Analysis, Face

SAME_FACE_IOU: Final = 0.5
"""Overlap of two boxes from which they are one face."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The version in service against the candidate, on one image.

    overlaps: IoU of matched boxes. cosines: of matched embeddings, empty where the spaces differ,
    as embeddings of two spaces say nothing about each other. score_differences: candidate minus
    active, of faces that both rate. scores_lost: faces that only the version in service rates.
    """

    matched: int
    only_active: int
    only_candidate: int
    overlaps: tuple[float, ...]
    cosines: tuple[float, ...]
    score_differences: tuple[float, ...]
    scores_lost: int


def compare(active: Analysis, candidate: Analysis) -> Difference:
    """Match the faces of two analyses of one image by their boxes and hold them side by side."""
    matches = match_faces(active.faces, candidate.faces)
    pairs = [(active.faces[a], candidate.faces[c]) for a, c, _ in matches]
    one_space = (
        active.embedding is not None
        and candidate.embedding is not None
        and active.embedding.id == candidate.embedding.id
    )
    rated = [(a.score, c.score) for a, c in pairs if a.score is not None and np.isfinite(a.score)]
    both = [(a, c) for a, c in rated if c is not None and np.isfinite(c)]
    return Difference(
        matched=len(matches),
        only_active=len(active.faces) - len(matches),
        only_candidate=len(candidate.faces) - len(matches),
        overlaps=tuple(iou for _, _, iou in matches),
        cosines=tuple(
            float(np.clip(a.embedding @ c.embedding, -1.0, 1.0))
            for a, c in pairs
            if one_space and a.embedding is not None and c.embedding is not None
        ),
        score_differences=tuple(c - a for a, c in both),
        scores_lost=len(rated) - len(both),
    )


def match_faces(
    active: tuple[Face, ...], candidate: tuple[Face, ...]
) -> list[tuple[int, int, float]]:
    """Pair faces whose boxes overlap, the closest first: index, index, IoU. Each face once."""
    overlaps = sorted(
        (
            (_iou(a.box, c.box), row, column)
            for row, a in enumerate(active)
            for column, c in enumerate(candidate)
        ),
        reverse=True,
    )
    rows: set[int] = set()
    columns: set[int] = set()
    found = []
    for iou, row, column in overlaps:
        if iou < SAME_FACE_IOU:
            break
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.append((row, column, iou))
    return found


def _iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)

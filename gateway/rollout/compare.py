"""How two analyses of one image differ, face by face."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.types import Analysis, Face, Weights
from triton_python_backend import contract

SAME_FACE_IOU: Final = 0.5
"""Overlap of two boxes from which they are one face."""
COMPARED: Final = tuple(
    (stage.name, output)
    for stage in contract.STAGES
    for output in stage.face_outputs
    if output.compared is not None
)
"""Outputs that two versions are compared by, each with its stage."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The active version against the candidate, on one image.

    overlaps: IoU of matched boxes. values: by name of an output that is compared, of each matched
    face that both give it for: candidate minus active of numbers, cosines of vectors. lost: by name
    of a number, faces for which only the active version gives it.
    """

    matched: int
    only_active: int
    only_candidate: int
    overlaps: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]
    lost: Mapping[str, int]


def compare(active: Analysis, candidate: Analysis) -> Difference:
    """Match the faces of two analyses of one image by their boxes and compare their outputs."""
    matches = match_faces(active.faces, candidate.faces)
    pairs = [(active.faces[a].outputs, candidate.faces[c].outputs) for a, c, _ in matches]
    values: dict[str, tuple[float, ...]] = {}
    lost: dict[str, int] = {}
    for stage, output in COMPARED:
        both = [(a.get(output.name), c.get(output.name)) for a, c in pairs]
        if output.is_number:
            given = [(a, c) for a, c in both if a is not None and np.isfinite(a)]
            kept = [(a, c) for a, c in given if c is not None and np.isfinite(c)]
            values[output.name] = tuple(c - a for a, c in kept)
            lost[output.name] = len(given) - len(kept)
        else:
            # vectors of two networks say nothing about each other
            one_space = _are_same(active.weights.get(stage), candidate.weights.get(stage))
            values[output.name] = tuple(
                float(np.clip(a @ c, -1.0, 1.0))
                for a, c in both
                if one_space and a is not None and c is not None
            )
    return Difference(
        matched=len(matches),
        only_active=len(active.faces) - len(matches),
        only_candidate=len(candidate.faces) - len(matches),
        overlaps=tuple(iou for _, _, iou in matches),
        values=values,
        lost=lost,
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


def _are_same(a: Weights | None, b: Weights | None) -> bool:
    return a is not None and b is not None and a.id == b.id


def _iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)

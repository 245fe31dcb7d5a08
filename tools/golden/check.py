"""Is a network what it says it is, and of any use at all?"""

from pathlib import Path
from typing import Final

import numpy as np

from tools.errors import WeightsError
from tools.golden import inputs
from tools.golden.answers import Answer, Expected, Floats, answer, expected
from triton_python_backend import contract

SAME_COSINE: Final = 0.999
"""From which two embeddings of one crop count as made by the same weights."""
_PIXELS: Final = 1.0
_POINTS: Final = 0.02
_SAME_FACE: Final = 0.5
"""Overlap from which a box shows the portrait's face."""


def check_golden(
    stage: str,
    graph: bytes,
    path: Path,
    *,
    space: str | None = None,
    width: int | None = None,
    known: Expected = expected,
) -> Answer:
    """Run the golden set; weights that are known must answer as they did, others sensibly.

    Raises:
        WeightsError: with what was expected and what came.
    """
    found = answer(stage, graph, path, space=space, width=width)
    wanted = known(stage, found.id)
    if wanted is not None:
        _compare(stage, found.values, wanted, path)
    elif stage == contract.DETECTION.name:
        _must_find_the_face(found.values, path)
    elif stage == contract.EMBEDDING_STAGE.name:
        _must_tell_faces_apart(found.values, path)
    return found


def cosine(a: Floats, b: Floats) -> float:
    """The lowest cosine between rows of two sets of unit vectors [N,D]; -1 for other widths."""
    if a.shape != b.shape:
        return -1.0
    return float((a.astype(np.float64) * b.astype(np.float64)).sum(axis=1).min())


def _compare(stage: str, found: Floats, wanted: Floats, path: Path) -> None:
    if found.shape != wanted.shape:
        raise WeightsError(
            f"{path}: golden answers came as {list(found.shape)}, {list(wanted.shape)} was expected"
        )
    if stage == contract.EMBEDDING_STAGE.name:
        # kept in 16 bits, which costs less than a ten thousandth
        unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        measured = cosine(found, unit)
        if not measured >= SAME_COSINE:
            raise WeightsError(
                f"{path}: the golden crops come out at a cosine of {measured:.4f} to what these "
                f"weights answered when they were recorded; {SAME_COSINE} was expected"
            )
        return
    allowed = _PIXELS if stage == contract.DETECTION.name else _POINTS
    furthest = float(np.abs(found - wanted).max(initial=0))
    if not furthest <= allowed:
        raise WeightsError(
            f"{path}: golden answers are off by {furthest:.3f}; {allowed} is allowed"
        )


def _must_find_the_face(found: Floats, path: Path) -> None:
    if not found.size:
        raise WeightsError(f"{path}: does not find the face in the golden portrait")
    low = np.maximum(found[:2], inputs.BOX[:2])
    high = np.minimum(found[2:4], inputs.BOX[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    both = float(np.prod(found[2:4] - found[:2]) + np.prod(inputs.BOX[2:] - inputs.BOX[:2]))
    if shared < _SAME_FACE * (both - shared):
        box = [round(float(value)) for value in found[:4]]
        raise WeightsError(f"{path}: takes {box} for the face of the golden portrait")


def _must_tell_faces_apart(found: Floats, path: Path) -> None:
    similar = found.astype(np.float64) @ found[0].astype(np.float64)
    same = min(similar[row] for row in inputs.near_views())
    other = float(similar[inputs.VIEWS :].max())
    if not same > other:
        raise WeightsError(
            f"{path}: takes a drawing (cosine {other:.3f}) for the golden portrait rather than the "
            f"portrait itself, recompressed ({same:.3f})"
        )

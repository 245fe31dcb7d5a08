"""How far a lighter network's answers are from those of the float one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tools.evaluation.verification import OTHER_PERSON, accuracy_at_best
from tools.importing.dry_run import Answers, Trial
from tools.quantization.samples import Pixels, detect, views
from triton_python_backend import contract
from triton_python_backend.geometry import overlaps

Floats = npt.NDArray[np.float32]

ENOUGH_PAIRS: Final = 500
"""Made pairs of one person from which a difference in accuracy is judged: one is 0.1 points."""
_BATCH: Final = 16
_SAME_FACE: Final = 0.5
"""Overlap (intersection over union) from which two boxes show one face."""
_SEEDS: Final = (21, 22, 23, 24)


@dataclass(frozen=True, slots=True)
class EmbeddingAccuracy:
    """Of a lighter embedding, on crops that it was not calibrated with."""

    crops: int
    cosine_mean: float
    """To the float network, over the crops as they are."""
    cosine_lowest: float
    pairs: int
    """Made pairs of one person: two degraded views of one crop; as many of different people."""
    verification_float: float
    """Share of pairs told right at the best threshold, by the float network."""
    verification: float
    """The same by the lighter one."""


@dataclass(frozen=True, slots=True)
class DetectionAccuracy:
    """Of a lighter detector, on canvases that it was not calibrated with."""

    canvases: int
    faces: int
    """That the float network finds."""
    found: float
    """Share of them that the lighter one finds, too (overlap of 0.5)."""
    extra: int
    """Faces that only the lighter one finds."""
    landmark_pixels: float
    """Mean distance of landmarks of the same face, canvas pixels; 0 where there is none."""


def embed(network: Trial, crops: Pixels) -> Floats:
    """Embed crops [N,112,112,3] uint8 RGB; [N,D] float32 of length 1."""
    name = contract.EMBEDDING
    batches = range(0, len(crops), _BATCH)
    return np.concatenate(
        [network.run({contract.CROPS: crops[b : b + _BATCH]}, [name])[name] for b in batches]
    )


def compare_embeddings(exact: Trial, light: Trial, crops: Pixels) -> EmbeddingAccuracy:
    """Compare two embedding stages on crops [N,112,112,3] uint8 RGB."""
    wanted = embed(exact, crops)
    cosines = (wanted * embed(light, crops)).sum(axis=1)
    other = _most_similar_other(wanted)
    made = [views(crops, seed=seed) for seed in _SEEDS]
    verified = [_verify([embed(network, v) for v in made], other) for network in (exact, light)]
    return EmbeddingAccuracy(
        crops=len(crops),
        cosine_mean=float(cosines.mean()),
        cosine_lowest=float(cosines.min()),
        pairs=int((other >= 0).sum()) * len(_SEEDS) // 2,
        verification_float=verified[0],
        verification=verified[1],
    )


def compare_detections(exact: Trial, light: Trial, canvases: Sequence[Pixels]) -> DetectionAccuracy:
    """Compare two detection stages on canvases [h,w,3] uint8 RGB."""
    faces = found = extra = 0
    distances: list[float] = []
    for canvas in canvases:
        wanted, seen = _faces(detect(exact, canvas)), _faces(detect(light, canvas))
        shared = overlaps(wanted[0], seen[0])
        rows = np.flatnonzero(shared.max(axis=1, initial=0) >= _SAME_FACE)
        faces += len(wanted[0])
        found += len(rows)
        extra += int((shared.max(axis=0, initial=0) < _SAME_FACE).sum())
        for row in rows:
            difference = wanted[1][row] - seen[1][shared[row].argmax()]
            distances.append(float(np.hypot(difference[:, 0], difference[:, 1]).mean()))
    return DetectionAccuracy(
        canvases=len(canvases),
        faces=faces,
        found=found / faces if faces else 0.0,
        extra=extra,
        landmark_pixels=float(np.mean(distances)) if distances else 0.0,
    )


def _most_similar_other(embeddings: Floats) -> npt.NDArray[np.int64]:
    # of each row the row of the most similar other person, or -1; no identity is labelled, so
    # what is very similar counts as the same person
    similar = embeddings @ embeddings.T
    similar[similar >= OTHER_PERSON] = -2
    best = similar.argmax(axis=1)
    return np.where(similar[np.arange(len(best)), best] > -2, best, -1).astype(np.int64)


def _verify(made: Sequence[Floats], other: npt.NDArray[np.int64]) -> float:
    # embeddings [N,D] of several views of each row; pairs of the first and second, third and fourth
    rows = np.flatnonzero(other >= 0)
    if not len(rows):
        return 0.0
    pairs = list(zip(made[::2], made[1::2], strict=True))
    same = np.concatenate([(a[rows] * b[rows]).sum(axis=1) for a, b in pairs])
    different = np.concatenate([(a[rows] * b[other[rows]]).sum(axis=1) for a, b in pairs])
    return accuracy_at_best(same, different)[0]


def _faces(answer: Answers) -> tuple[Floats, Floats]:
    rows = answer[contract.CONFIDENCE][0] > 0
    return answer[contract.BOXES][0][rows], answer[contract.LANDMARKS][0][rows]

"""The references of the versions in service, measured on photos."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.monitoring.golden_probe import PORTRAIT, answer_parts
from gateway.registry.reference import (
    CONFIDENCE,
    COSINE_TO_MEAN,
    REFERENCE_FILE,
    SCORE,
    Histogram,
    Reference,
)
from gateway.types import Analysis, Face
from tools.errors import WeightsError
from tools.evaluation.ensemble import Ensemble
from tools.evaluation.photos import Photo
from tools.registry.repository import place_beside
from triton_python_backend import contract
from triton_python_backend.formats.header import InvalidImageError

FEWEST_FACES: Final = 200
"""Twenty for each bin."""
BINS: Final = 10
_DIGITS: Final = 6
_THREADS: Final = 2
Floats = npt.NDArray[np.float64]


def measure(
    repository: Path,
    photos: Iterable[Photo],
    *,
    told: str,
    progress: Callable[[int], None] = lambda _: None,
    fewest: int = FEWEST_FACES,
) -> dict[str, Reference]:
    """Measure the newest versions of a repository, by name of the stage; writes nothing.

    Args:
        repository: the folder that Triton serves.
        photos: names and bytes; what is no image is passed over.
        told: says which photos these are.
        progress: told how many are done.
        fewest: faces below which nothing can be said.

    Raises:
        WeightsError: too few faces, or a network that fails.
    """
    ensemble = Ensemble(repository)
    portrait = ensemble.analyse(PORTRAIT.read_bytes())
    faces = [
        face for analysis in _analyse_all(ensemble, photos, progress) for face in analysis.faces
    ]
    if len(faces) < fewest:
        raise WeightsError(f"the photos show {len(faces)} faces; {fewest} are needed")
    return _references(portrait, faces, told)


def write(repository: Path, references: dict[str, Reference]) -> list[Path]:
    """Put references beside the newest versions, each in one step."""
    paths = []
    for stage, folder in Ensemble(repository).folders.items():
        path = folder / REFERENCE_FILE
        place_beside(path, references[stage].model_dump_json(indent=1, exclude_none=True) + "\n")
        paths.append(path)
    return paths


def histogram(values: Sequence[float]) -> Histogram:
    """Ten bins of equal shares, as far as the values can be told apart."""
    # edges are values that occurred: between them, bins may be left that nothing falls into
    array = np.round(np.asarray(values, np.float64), _DIGITS)
    edges = np.unique(np.quantile(array, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
    edges = edges[edges > array.min()]
    counts = np.bincount(np.searchsorted(edges, array, side="right"), minlength=len(edges) + 1)
    shares = np.round(counts / len(array), _DIGITS)
    return Histogram(edges=tuple(edges.tolist()), shares=tuple(shares.tolist()))


def _analyse_all(
    ensemble: Ensemble, photos: Iterable[Photo], progress: Callable[[int], None]
) -> Iterator[Analysis]:
    def analyse(photo: Photo) -> Analysis | None:
        try:
            return ensemble.analyse(photo[1])
        except InvalidImageError:
            return None

    source, done = iter(photos), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        # a few at a time: the photos of an archive are many
        while chunk := [pool.submit(analyse, photo) for photo in islice(source, 8 * _THREADS)]:
            for analysis in map(Future.result, chunk):
                done += 1
                progress(done)
                if analysis is not None:
                    yield analysis


def _references(portrait: Analysis, faces: Sequence[Face], told: str) -> dict[str, Reference]:
    if portrait.embedding is None or portrait.scoring is None:
        raise WeightsError("the stages do not tell their ids")
    detection, embedding, scoring = (stage.name for stage in contract.ONNX_STAGES)
    ids = {
        detection: portrait.detection.id,
        embedding: portrait.embedding.id,
        scoring: portrait.scoring.id,
    }
    vectors = np.stack([face.embedding for face in faces if face.embedding is not None])
    mean = vectors.astype(np.float64).mean(axis=0)
    mean = np.round(mean / np.linalg.norm(mean), _DIGITS)
    columns = {
        column: [getattr(face.quality, column) for face in faces]
        for column in contract.QUALITY_COLUMNS
    }
    scores = [face.score for face in faces if face.score is not None and np.isfinite(face.score)]
    values: dict[str, dict[str, Sequence[float]]] = {
        detection: {CONFIDENCE: [face.confidence for face in faces], **columns},
        embedding: {COSINE_TO_MEAN: (vectors @ mean).tolist()},
        # a head of another space rates nothing
        scoring: {SCORE: scores} if scores else {},
    }
    parts = answer_parts(portrait)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    order = list(ids)
    return {
        stage: Reference(
            id=ids[stage],
            made_with={before: ids[before] for before in order[: order.index(stage)]},
            photos=told,
            faces=len(faces),
            made_at=now,
            measures={name: histogram(found) for name, found in values[stage].items()},
            mean=tuple(mean.tolist()) if stage == embedding else None,
            portrait=tuple(round(value, _DIGITS) for value in parts[stage][1])
            if stage in parts
            else (),
        )
        for stage in ids
    }

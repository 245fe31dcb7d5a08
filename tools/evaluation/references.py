"""References of the active versions, measured on photos."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.errors import AurumError, InvalidImageError
from gateway.inference.local import LocalEnsemble
from gateway.monitoring.golden_probe import PORTRAIT, answer_parts
from gateway.registry.measures import measure_face
from gateway.registry.reference import REFERENCE_FILE, Histogram, Reference
from gateway.types import Analysis, Face
from tools.errors import WeightsError
from tools.evaluation import second_look
from tools.evaluation.photos import Photo
from tools.registry.repository import place_beside
from triton_python_backend import decoding
from triton_python_backend.contract import DETECTION, ONNX_STAGES, Stage
from triton_python_backend.needs import networks_behind

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
    photo_source: str,
    progress: Callable[[int], None] = lambda _: None,
    fewest: int = FEWEST_FACES,
) -> dict[str, Reference]:
    """Measure the newest versions of a repository, by name of the stage; writes nothing.

    Args:
        repository: the folder that Triton serves.
        photos: names and bytes; files that are no images are skipped.
        photo_source: which photos these are, for the reference file.
        progress: called with the number of photos done.
        fewest: faces that are needed at least.

    Raises:
        ConfigurationError: a stage has no version that loads.
        WeightsError: too few faces, or a network that fails.
    """
    ensemble = LocalEnsemble(repository)
    try:
        portrait = ensemble.analyse(PORTRAIT.read_bytes())
        answers = list(_analyse_all(ensemble, photos, progress))
    except AurumError as error:
        raise WeightsError(error.detail) from error
    faces = [face for analysis, _ in answers for face in analysis.faces]
    if len(faces) < fewest:
        raise WeightsError(f"the photos show {len(faces)} faces; {fewest} are needed")
    measured = second_look.conclude([seen for _, seen in answers])
    return _references(portrait, faces, photo_source, measured)


def write(repository: Path, references: dict[str, Reference]) -> list[Path]:
    """Put references beside the newest versions, each in one step."""
    paths = []
    for stage, folder in LocalEnsemble(repository).folders.items():
        path = folder / REFERENCE_FILE
        place_beside(path, references[stage].model_dump_json(indent=1, exclude_none=True) + "\n")
        paths.append(path)
    return paths


def histogram(values: Sequence[float]) -> Histogram:
    """Ten bins of equal shares; fewer where values are equal."""
    # edges are values that occurred: between them, bins may be left that nothing falls into
    array = np.round(np.asarray(values, np.float64), _DIGITS)
    edges = np.unique(np.quantile(array, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
    edges = edges[edges > array.min()]
    counts = np.bincount(np.searchsorted(edges, array, side="right"), minlength=len(edges) + 1)
    shares = np.round(counts / len(array), _DIGITS)
    return Histogram(edges=tuple(edges.tolist()), shares=tuple(shares.tolist()))


def _analyse_all(
    ensemble: LocalEnsemble, photos: Iterable[Photo], progress: Callable[[int], None]
) -> Iterator[tuple[Analysis, second_look.Seen]]:
    def analyse(number: int, data: bytes) -> tuple[Analysis, second_look.Seen] | None:
        try:
            return ensemble.analyse(data), second_look.see(
                decoding.decode_reduced(data, reduction=1),
                ensemble.look_at,
                upside_down=number % second_look.TURNED_EVERY == 0,
            )
        except InvalidImageError:
            return None

    source, done = iter(photos), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        # a few at a time: the photos of an archive are many
        while chunk := [
            pool.submit(analyse, number, data)
            for number, (_, data) in enumerate(islice(source, 8 * _THREADS), start=done)
        ]:
            for answer in map(Future.result, chunk):
                done += 1
                progress(done)
                if answer is not None:
                    yield answer


def _references(
    portrait: Analysis,
    faces: Sequence[Face],
    photo_source: str,
    measured: second_look.Measured | None,
) -> dict[str, Reference]:
    ids = {stage: weights.id for stage, weights in portrait.weights.items()}
    if set(ids) != {stage.name for stage in ONNX_STAGES}:
        raise WeightsError("the stages do not answer their ids")
    parts = answer_parts(portrait)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = {}
    for stage in ONNX_STAGES:
        mean = _mean(stage, faces)
        _, values = parts.get(stage.name, ("", ()))
        found[stage.name] = Reference(
            id=ids[stage.name],
            made_with={name: ids[name] for name in networks_behind(stage.name)[:-1]},
            photos=photo_source,
            faces=len(faces),
            made_at=now,
            measures=_measures(stage, faces, mean),
            mean=None if mean is None else tuple(mean.tolist()),
            second_look=measured.document() if measured and stage is DETECTION else None,
            portrait=tuple(round(value, _DIGITS) for value in values),
        )
    return found


def _mean(stage: Stage, faces: Sequence[Face]) -> Floats | None:
    """The unit vector towards the mean of the vectors that drift of a stage is measured by."""
    for output in stage.face_outputs:
        if output.is_vector and output.watched is not None:
            vectors = [face.outputs[output.name] for face in faces if output.name in face.outputs]
            mean = np.stack(vectors).astype(np.float64).mean(axis=0)
            rounded: Floats = np.round(mean / np.linalg.norm(mean), _DIGITS)
            return rounded
    return None


def _measures(stage: Stage, faces: Sequence[Face], mean: Floats | None) -> dict[str, Histogram]:
    values: dict[str, list[float]] = {name: [] for name in stage.watched}
    for face in faces:
        for name, value in measure_face(stage, face, mean):
            # NaN: a head of another space gives no score
            if np.isfinite(value):
                values[name].append(value)
    return {name: histogram(found) for name, found in values.items() if found}

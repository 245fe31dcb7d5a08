"""What `aurum models import` measures on photos: when a new detector is to be called again."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from tools.errors import WeightsError
from tools.evaluation.photos import sample
from tools.evaluation.second_look import FEWEST_PHOTOS, measure
from tools.importing.dry_run import Trial
from tools.importing.importer import Quantize
from tools.registry.prepared import Prepared
from triton_python_backend.contract import CANVAS, DETECTION
from triton_python_backend.decoding import Pixels
from triton_python_backend.detection import Detections
from triton_python_backend.served_detector import read_canvases

_MOST_PHOTOS: Final = 4000


def measuring(photos: Path, prepare: Quantize, *, progress: Callable[[str], None]) -> Quantize:
    """Extend the last step of an import: a detector is measured on photos, too.

    The returned function raises WeightsError for photos that cannot be read or show too few faces.
    """

    def prepare_and_measure(item: Prepared) -> Prepared:
        prepared = prepare(item)
        return _measured(prepared, photos, progress) if item.stage == DETECTION.name else prepared

    return prepare_and_measure


def _measured(item: Prepared, photos: Path, progress: Callable[[str], None]) -> Prepared:
    trial = Trial(item.graph, item.source)
    names = [output.name for output in DETECTION.outputs]

    def ask(canvases: Sequence[Pixels]) -> list[Detections]:
        answers = (dict(trial.run({CANVAS: canvas[np.newaxis]}, names)) for canvas in canvases)
        return [found for answer in answers for found in read_canvases(answer)]

    found = measure(
        ask,
        sample([photos], most=_MOST_PHOTOS),
        progress=lambda done: progress(f"measuring the detector: {done} photos"),
    )
    if found is None:
        raise WeightsError(
            f"{photos} shows faces in too few photos: {FEWEST_PHOTOS} are needed to measure when "
            "the detector is called again"
        )
    return replace(item, second_look=found.document())

"""What the networks see of photos: crops and canvases, made by the stages themselves."""

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from tools.errors import WeightsError
from tools.evaluation.views import Recipe, make_batch
from tools.golden import inputs
from tools.importing.dry_run import Answers, Trial
from triton_python_backend import contract, stages
from triton_python_backend.decoding import Picture
from triton_python_backend.detection import Detections
from triton_python_backend.formats.header import InvalidImageError
from triton_python_backend.preprocess import make_closeup, make_frame
from triton_python_backend.served_detector import batched, read_canvases

Pixels = npt.NDArray[np.uint8]

MOST_PHOTOS: Final = 600
"""Photos read of a larger collection, evenly spread over it."""
_CALIBRATE_ONE_IN: Final = 4
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_Name = TypeVar("_Name", Path, str)
_MARGIN: Final = 8
"""Pixels around a crop that a view may show, as in training."""
_DETECTOR_OUTPUTS: Final = [tensor.name for tensor in contract.DETECTION.outputs]


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs of both networks, and what they were made of.

    crops: [N,112,112,3] uint8 RGB. canvases: [h,w,3] uint8 RGB each.
    """

    name: str
    crops: Pixels
    canvases: tuple[Pixels, ...]


@dataclass(frozen=True, slots=True)
class SampleSplit:
    """Samples to calibrate with, and others to measure on."""

    calibration: Samples
    held_out: Samples


def from_photos(source: Path, detector: Trial, *, most: int = MOST_PHOTOS) -> SampleSplit:
    """Run decoding, detection and alignment on photos; every fourth is calibrated with.

    Raises:
        WeightsError: if the photos cannot be read or too few of them show a face.
    """
    seen = [_see(data, detector) for data in read_photos(source, most=most)]
    if sum(len(crops) for crops, _ in seen) < 2 * _CALIBRATE_ONE_IN:
        raise WeightsError(f"{source}: fewer than {2 * _CALIBRATE_ONE_IN} photos show a face")
    calibration = seen[::_CALIBRATE_ONE_IN]
    held_out = [each for row, each in enumerate(seen) if row % _CALIBRATE_ONE_IN]
    return SampleSplit(_joined(source.name, calibration), _joined(source.name, held_out))


def from_golden_set() -> SampleSplit:
    """Make samples of what the program brings: views of one portrait, and drawn faces."""
    name = "views of the golden portrait, and drawings"
    crops, picture = inputs.crops(), inputs.portrait()
    calibration = np.concatenate([crops, *(views(crops, seed=seed) for seed in (1, 2))])
    held_out = np.concatenate([views(crops, seed=seed) for seed in (11, 12, 13)])
    return SampleSplit(
        Samples(name, calibration, _canvases(picture)),
        Samples(name, held_out, _canvases(picture[:, ::-1])),
    )


def views(crops: Pixels, *, seed: int) -> Pixels:
    """Degrade crops [N,112,112,3] as training does: turned, blurred, recoloured, covered."""
    edges = ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    wide = np.pad(crops, edges, mode="edge")
    rows = np.arange(len(crops))
    generator = np.random.default_rng(seed)
    made, _ = make_batch(wide, rows, side=contract.CROP_SIZE, recipe=Recipe(), rng=generator)
    return made


def read_photos(source: Path, *, most: int) -> Iterator[bytes]:
    """Read photos of a folder or tar file, evenly spread over their names.

    Raises:
        WeightsError: if there is no such folder or archive, or no photo in it.
    """
    try:
        if source.is_dir():
            paths = sorted(path for path in source.rglob("*") if _is_photo(path.name))
            for path in _spread(paths, most, source):
                yield path.read_bytes()
            return
        with tarfile.open(source) as archive:
            members = {m.name: m for m in archive if m.isfile() and _is_photo(m.name)}
            for name in _spread(sorted(members), most, source):
                file = archive.extractfile(members[name])
                if file is not None:
                    yield file.read()
    except (OSError, tarfile.TarError) as error:
        raise WeightsError(f"{source} is no folder or tar file of photos: {error}") from error


def detect(detector: Trial, canvas: Pixels) -> Answers:
    """Run a detector's stage on one canvas [h,w,3]; outputs of one row each."""
    return detector.run({contract.CANVAS: canvas[None]}, _DETECTOR_OUTPUTS)


def _see(data: bytes, detector: Trial) -> tuple[Pixels, list[Pixels]]:
    # the largest face's crop [1 or 0,112,112,3], and the canvases that the detector saw
    image: npt.NDArray[Any] = np.array([data], dtype=np.object_)
    try:
        made = stages.preprocess_image({contract.IMAGE: image})
    except InvalidImageError:
        return np.empty((0, contract.CROP_SIZE, contract.CROP_SIZE, 3), np.uint8), []
    shown: list[Pixels] = [made[contract.FRAME][0]]
    frame = detect(detector, shown[0])

    def ask(canvases: Sequence[Pixels], **_: int) -> list[Detections]:
        shown.extend(canvases)
        batches = [np.stack(batch) for batch in batched(canvases)]
        answers = [detector.run({contract.CANVAS: b}, _DETECTOR_OUTPUTS) for b in batches]
        return [found for answer in answers for found in read_canvases(answer)]

    aligned = stages.align_faces(
        {
            contract.IMAGE: image,
            contract.PIXELS: made[contract.PIXELS],
            contract.SIZE: made[contract.SIZE],
            contract.FRAME_BOXES: frame[contract.BOXES],
            contract.FRAME_LANDMARKS: frame[contract.LANDMARKS],
            contract.FRAME_CONFIDENCE: frame[contract.CONFIDENCE],
            contract.FRAME_DETECTOR: frame[contract.DETECTOR],
        },
        contract.Look(rotation="off"),
        ask=ask,
    )
    return aligned[contract.CROPS][:1], shown


def _joined(name: str, seen: Iterable[tuple[Pixels, list[Pixels]]]) -> Samples:
    pairs = list(seen)
    canvases = tuple(canvas for _, found in pairs for canvas in found)
    return Samples(name, np.concatenate([crops for crops, _ in pairs]), canvases)


def _canvases(pixels: Pixels) -> tuple[Pixels, ...]:
    # the picture as it is, darker, brighter and small in the frame, and the close-up of it
    found = [make_closeup(Picture.whole(pixels))[0]]
    for gain in (0.5, 1.0, 1.4):
        lit = np.clip(pixels * gain, 0, 255).astype(np.uint8)
        found.append(make_frame(Picture.whole(lit))[0])
    edge = pixels.shape[0]
    around = cv2.copyMakeBorder(pixels, 0, edge, edge, 0, cv2.BORDER_REFLECT)
    found.append(make_frame(Picture.whole(np.asarray(around, np.uint8)))[0])
    return tuple(found)


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in _SUFFIXES


def _spread(found: Sequence[_Name], most: int, source: Path) -> list[_Name]:
    if not found:
        raise WeightsError(f"{source} holds no photo")
    count = min(most, len(found))
    return [found[row * len(found) // count] for row in range(count)]

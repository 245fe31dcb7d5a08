"""Training data of the refiner: the detector's faces with the teacher's landmarks.

Scenes are composed as for the detector. Each face that both networks detect gives one crop in the
frame of the detection and `VIEWS` - 1 in jittered frames, with both networks' landmarks in that
frame. They are stored in files of some hundred scenes, so that an interrupted collection resumes.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np

from tools.training.detection.augment import covered, harshly_lit
from tools.training.detection.compose import Composer
from tools.training.detection.sample import Sample
from tools.training.detection.scrfd import RawDetector, iou_matrix
from tools.training.landmarks.crops import ByteArray, FloatArray, cut, frames_of

VIEWS = 3
SAME_IOU = 0.5
SMALLEST = 15.0  # pixels
FAINT, SEEN = 0.3, 0.45  # scores from which the detector's and the teacher's faces count
HARD = 0.1  # share of scenes with covered faces, and in harsh light
CLOSE_UP, MOSAIC = 0.3, 0.2  # shares of portraits on the small canvas, and of mosaics
SMALL, LARGE = 320, 640  # pixels of the canvases of both passes
SCENES = 400  # in a file


@dataclass(frozen=True, slots=True)
class LandmarkDataset:
    """Crops ``[N,VIEWS,SIDE,SIDE,3]`` uint8; offered, truth: landmarks ``[N,VIEWS,5,2]``."""

    crops: ByteArray
    offered: FloatArray
    truth: FloatArray

    def __len__(self) -> int:
        return len(self.crops)


def joined(examples: list[LandmarkDataset]) -> LandmarkDataset:
    """Concatenate examples."""
    names = [part.name for part in fields(LandmarkDataset)]
    return LandmarkDataset(
        *(np.concatenate([getattr(each, name) for each in examples]) for name in names)
    )


def about(
    canvas: ByteArray, *, detector: RawDetector, teacher: RawDetector, rng: np.random.Generator
) -> LandmarkDataset | None:
    """Make examples of the faces that both networks detect in ``[S,S,3]``; may be empty."""
    size = canvas.shape[0]
    truth = teacher.detect(canvas, size=size, threshold=SEEN)
    found = detector.detect(canvas, size=size, threshold=FAINT)
    if not len(truth) or not len(found):
        return None
    overlaps = iou_matrix(found.boxes, truth.boxes)
    sizes = np.sqrt((found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1))
    both = (overlaps.max(axis=1) >= SAME_IOU) & (sizes >= SMALLEST)
    if not both.any():
        return None
    truth, found = truth.select(overlaps.argmax(axis=1)[both]), found.select(both)
    frames = frames_of(found.boxes, found.landmarks)
    views = [frames, *(frames.shaken(rng) for _ in range(VIEWS - 1))]
    crops = np.stack([cut(canvas, view) for view in views], axis=1)
    return LandmarkDataset(
        np.clip(np.rint(crops), 0, 255).astype(np.uint8),
        np.stack([view.inward(found.landmarks) for view in views], axis=1),
        np.stack([view.inward(truth.landmarks) for view in views], axis=1),
    )


def scene(composer: Composer, rng: np.random.Generator) -> Sample:
    """Compose a scene for one of the pipeline's passes."""
    kind = rng.random()
    if kind < CLOSE_UP:
        sample = composer.portrait(rng, SMALL)
    elif kind < CLOSE_UP + MOSAIC:
        sample = composer.mosaics.sample(rng, LARGE)
    else:
        sample = composer.sample(rng, LARGE)
    if rng.random() < HARD:
        sample = replace(sample, image=covered(sample.image, sample.boxes, rng))
    if rng.random() < HARD:
        sample = replace(sample, image=harshly_lit(sample.image, rng))
    return sample


def collect(
    composer: Composer, *, detector: Path, teacher: Path, seed: int, files: int, folder: Path
) -> Iterator[Path]:
    """Yield files of examples for this detector; missing files are made first."""
    cv2.setNumThreads(1)
    student, other = RawDetector(detector, refines=False), RawDetector(teacher)
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(detector.read_bytes()).hexdigest()[:8]
    for index in range(files):
        path = folder / f"{digest}_{seed}_{index:04}.npz"
        if not path.exists():
            rng = np.random.default_rng([seed, index])
            drawn = (scene(composer, rng).image for _ in range(SCENES))
            made = [about(each, detector=student, teacher=other, rng=rng) for each in drawn]
            examples = joined([each for each in made if each is not None])
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.savez(file, crops=examples.crops, offered=examples.offered, truth=examples.truth)
            partial.rename(path)
        yield path


def load(path: Path) -> LandmarkDataset:
    """Read a file of examples."""
    with np.load(path) as arrays:
        return LandmarkDataset(arrays["crops"], arrays["offered"], arrays["truth"])

"""Batches of training pictures and targets for the detector, composed during training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset

from tools.training.detection.augment import colour_jitter, covered, harshly_lit
from tools.training.detection.compose import Composer
from tools.training.detection.sample import Sample, mirrored
from tools.training.detection.scrfd import RawDetector
from tools.training.detection.settings import TrainSettings
from tools.training.detection.targets import make_rows
from tools.training.detection.teacher import Answers, ask, mirror, taught

POOL = 1000  # scenes in the pools of all workers together
REUSE = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """The pictures and targets of one step.

    images ``[B,3,S,S]`` uint8, channels last in memory; weight ``[B,M]``; rows ``[P]`` into
    ``B * M``; their scores ``[P]``, boxes ``[P,4]`` and points ``[P,5,2]`` in strides
    (`Targets`).
    """

    images: torch.Tensor
    weight: torch.Tensor
    rows: torch.Tensor
    scores: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """Move every tensor to `device`."""
        parts = (self.images, self.weight, self.rows, self.scores, self.boxes, self.points)
        return Batch(*(part.to(device) for part in parts))


class ComposedBatches(IterableDataset[Batch]):
    """An endless sequence of batches of composed scenes, different for every seed.

    Composing a scene and running the teacher on it costs as much as training on it. So each scene
    stays in a pool and is used `REUSE` times on average, mirrored and recoloured at random.
    """

    def __init__(
        self, composer: Composer, *, settings: TrainSettings, seed: int, teacher: Path
    ) -> None:
        """Compose scenes by `settings`; `teacher` (SCRFD's layout) gives the targets."""
        self._composer = composer
        self._mosaic, self._hard = settings.mosaic, settings.hard
        self._sides, self._times = settings.sides, settings.times
        self._pool = max(1, POOL // max(1, settings.workers))
        self._seed = seed
        self._teacher = teacher
        self._detector: RawDetector | None = None
        self._pools: dict[int, list[tuple[Sample, Answers]]] = {
            side.pixels: [] for side in settings.sides
        }
        self._rows = {side.pixels: make_rows(side.pixels) for side in settings.sides}

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self._seed, info.id if info else 0])
        while True:
            yield self.make(rng)

    def _compose(self, rng: np.random.Generator, size: int) -> tuple[Sample, Answers]:
        if self._detector is None:  # opened in the worker: sessions do not survive a fork
            self._detector = RawDetector(self._teacher)
        mosaic = rng.random() < self._mosaic
        make = self._composer.mosaics.sample if mosaic else self._composer.sample
        sample = make(rng, size)
        if rng.random() < self._hard:
            sample = replace(sample, image=covered(sample.image, sample.boxes, rng))
        if rng.random() < self._hard:
            sample = replace(sample, image=harshly_lit(sample.image, rng))
        return ask(self._detector, sample)

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[Sample, Answers]:
        """Compose a new scene into the pool, or vary one from the pool."""
        pool = self._pools[size]
        if len(pool) < self._pool or rng.random() < 1 / REUSE:
            lesson = self._compose(rng, size)
            if len(pool) < self._pool:
                pool.append(lesson)
            else:
                pool[rng.integers(self._pool)] = lesson
            return lesson
        sample, answers = pool[rng.integers(self._pool)]
        if rng.random() < 0.5:
            sample, answers = mirrored(sample), mirror(answers)
        return replace(sample, image=colour_jitter(sample.image, rng)), answers

    def make(self, rng: np.random.Generator) -> Batch:
        """Make one batch; its picture size is drawn by the sizes' shares."""
        shares = np.array([side.share for side in self._sides])
        side = self._sides[int(rng.choice(len(shares), p=shares / shares.sum()))]
        rows = self._rows[side.pixels]
        images, targets = [], []
        for _ in range(side.batch * self._times):
            sample, answers = self._draw(rng, side.pixels)
            images.append(sample.image)
            targets.append(taught(rows, sample, answers))
        total = len(rows.centres)
        return Batch(
            images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
            weight=torch.from_numpy(np.stack([t.weight for t in targets])),
            rows=torch.from_numpy(
                np.concatenate([t.rows + i * total for i, t in enumerate(targets)])
            ),
            scores=torch.from_numpy(np.concatenate([t.scores for t in targets])),
            boxes=torch.from_numpy(np.concatenate([t.boxes for t in targets])),
            points=torch.from_numpy(np.concatenate([t.points for t in targets])),
        )

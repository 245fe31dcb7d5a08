"""Training of the lite detector: composed scenes in, an averaged network out; resumable."""

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from tools.training.common import (
    Budget,
    LearningCurve,
    best_device,
    halves_pay,
    load_checkpoint,
    progress,
    save_checkpoint,
    seed_everything,
)
from tools.training.detection.augment import colour_jitter, covered, harshly_lit
from tools.training.detection.compose import Composer
from tools.training.detection.data import load_faces, load_scenes
from tools.training.detection.loss import Losses, detection_loss
from tools.training.detection.net import Block, LiteDetector, NetConfig, flatten
from tools.training.detection.sample import Sample, mirrored
from tools.training.detection.scrfd import RawDetector
from tools.training.detection.start import read_detector
from tools.training.detection.targets import make_rows
from tools.training.detection.teacher import Answers, ask, mirror, taught
from tools.training.growing import grow
from tools.training.muon import Muon

BETAS = (0.9, 0.99)
CURVE_EVERY = 100  # steps
POOL = 1000  # scenes, of all workers together
REUSE = 5


@dataclass(frozen=True, slots=True)
class Side:
    """Square pictures: their side in pixels, how many make a batch, the share of such batches."""

    pixels: int
    batch: int
    share: float


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """steps: in all, over every resumption; save_every_s: seconds between checkpoints.

    minutes: after which it ends even with steps left (`common.Budget`).
    times: how many times as many pictures a batch has as `sides` say.
    mosaic: the share of scenes that are mosaics; hard: of those with covered faces, and of those
    in harsh light; miniatures: of backgrounds that show several scenes; doodles: of those that
    things are drawn on.
    sides: each with the share of steps that see pictures of that side, and how many at once.
    Small pictures teach most for the time they take; the largest anchors see faces in large ones
    only.
    """

    steps: int = 20_000
    minutes: float | None = None
    times: int = 1
    sides: tuple[Side, ...] = (Side(256, 16, 0.5), Side(448, 5, 0.25), Side(640, 3, 0.25))
    muon_rate: float = 0.03
    adam_rate: float = 2e-3
    warmup: int = 300
    average: float = 0.998
    mosaic: float = 0.3
    hard: float = 0.1
    miniatures: float = 0.35
    doodles: float = 0.3
    seed: int = 7
    workers: int = 1
    save_every_s: float = 150.0


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's pictures and targets.

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
    """Endless batches of composed scenes, different for every seed.

    Composing a scene and asking the teacher about it costs as much as training on it, so it is
    used `REUSE` times on average, out of a pool, each time mirrored or not and in other colours.
    """

    def __init__(
        self, composer: Composer, *, settings: TrainSettings, seed: int, teacher: Path
    ) -> None:
        """Compose as `settings` say; `teacher`, in SCRFD's layout, answers for every scene."""
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
        if self._detector is None:  # in the process that composes: sessions do not survive a fork
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
        """Compose a new scene into the pool, or take one from it in another guise."""
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
        """One batch, of a side drawn by its share."""
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


def rate_share(step: int, done: float, settings: TrainSettings) -> float:
    """Share of the peak rates: up over the first steps, then down to nearly nothing as `done`."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    return max(0.005, 1 - done)


def split_weights(model: LiteDetector) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Sort the weights: convolutions that mix channels before a batch norm, and the rest."""
    turned: list[torch.Tensor] = []
    plain: list[torch.Tensor] = []
    for name, weight in model.named_parameters():
        mixes = weight.ndim == 4 and weight.shape[1] > 1
        (turned if mixes and not name.endswith("out.weight") else plain).append(weight)
    return turned, plain


def update_average(average: LiteDetector, model: LiteDetector, decay: float) -> None:
    """Move `average` towards `model` (weights and batch-norm statistics)."""
    with torch.no_grad():
        for mine, theirs in zip(
            average.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


class Trainer:
    """The network, its average and optimiser, and how far they are."""

    def __init__(self, settings: TrainSettings, config: NetConfig) -> None:
        self.settings = settings
        self.config = config
        self.device = best_device()
        self.half = halves_pay(self.device.type)
        model = LiteDetector(config).to(memory_format=torch.channels_last)
        self.model = model.to(self.device).train()
        self.average = copy.deepcopy(self.model).eval()
        turned, plain = split_weights(self.model)
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            Muon(turned, lr=settings.muon_rate, half=self.half),
            torch.optim.AdamW(
                plain, lr=settings.adam_rate, betas=BETAS, weight_decay=0.0, fused=True
            ),
        )
        self.step = 0
        self.budget = Budget(settings.steps, settings.minutes)

    @property
    def over(self) -> bool:
        """Whether steps or time are spent."""
        return self.budget.done(self.step) >= 1

    @property
    def share(self) -> float:
        """Share of the peak rates for the next step."""
        return rate_share(self.step, self.budget.done(self.step), self.settings)

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint; false where there is none."""
        state = load_checkpoint(path)
        if state is None:
            return False
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step = int(state["step"])
        return True

    def start(self, path: Path, images: torch.Tensor) -> None:
        """Grow the network of an ONNX file; images: ``[B,3,S,S]`` uint8 scenes."""
        known = read_detector(path, images.float().sub(127.5).div(128.0))
        grow(known, self.model, block=Block)
        self.average.load_state_dict(self.model.state_dict())

    def save(self, path: Path) -> None:
        """Write a checkpoint that `load` takes."""
        save_checkpoint(
            path,
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "step": self.step,
                "config": asdict(self.config),
                "settings": asdict(self.settings),
            },
        )

    def train_batch(self, batch: Batch) -> Losses:
        """One step of the optimiser; the losses before it."""
        share = self.share
        rates = (self.settings.muon_rate, self.settings.adam_rate)
        for optimiser, rate in zip(self.optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * share
        batch = batch.to(self.device)
        images = batch.images.float().sub_(127.5).mul_(1 / 128.0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            maps = self.model(images)
        losses = detection_loss(
            flatten([raw.float() for raw in maps]),
            weight=batch.weight,
            rows=batch.rows,
            scores=batch.scores,
            boxes=batch.boxes,
            points=batch.points,
        )
        self.model.zero_grad(set_to_none=True)
        losses.total.backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        # early on the average must forget the random start
        update_average(
            self.average, self.model, min(self.settings.average, self.step / (self.step + 10))
        )
        return losses


def load_average(path: Path) -> tuple[LiteDetector, int]:
    """Load the averaged network of a checkpoint, ready to infer, and the steps it has taken."""
    state = load_checkpoint(path)
    if state is None:
        raise FileNotFoundError(path)
    model = LiteDetector(NetConfig(**state["config"]))
    model.load_state_dict(state["average"])
    model.eval()
    return model, int(state["step"])


def train(
    *,
    cache: Path,
    out: Path,
    settings: TrainSettings,
    config: NetConfig,
    resume: bool,
    teacher: Path,
    start: Path | None = None,
) -> Path:
    """Train on the cache that `data.prepare` wrote; returns the checkpoint's path.

    Where there is no checkpoint to go on from, the network in the ONNX file `start` is taken up.
    `teacher`, a network in SCRFD's layout, is asked about every composed scene.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # a pool of threads would not live through the fork of the composers
    checkpoint = out / "checkpoint.pt"
    seed_everything(settings.seed)
    trainer = Trainer(settings, config)
    curve = LearningCurve(out / "curve.json")
    composer = Composer(
        load_faces(cache),
        load_scenes(cache / "scenes.npz"),
        held_out=False,
        miniatures=settings.miniatures,
        doodles=settings.doodles,
    )
    if resume and trainer.load(checkpoint):
        curve.load(up_to_step=trainer.step)
    elif start is not None:
        rng = np.random.default_rng(settings.seed)
        scenes = [composer.sample(rng, 256).image for _ in range(64)]
        trainer.start(start, torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2))
    # a resumed run draws other scenes than the ones it has seen
    data = ComposedBatches(
        composer, settings=settings, seed=settings.seed + trainer.step, teacher=teacher
    )
    with progress() as bar:
        task = bar.add_task("detection", total=settings.steps, completed=trainer.step)
        for _ in run_steps(trainer, data, curve, checkpoint=checkpoint):
            spent = trainer.budget.done(trainer.step)
            bar.update(task, completed=round(spent * settings.steps))
    trainer.save(checkpoint)
    return checkpoint


def run_steps(
    trainer: Trainer, data: ComposedBatches, curve: LearningCurve, *, checkpoint: Path
) -> Iterator[None]:
    """Train until the budget is spent, yielding after each step; curve, checkpoints on the way."""
    settings = trainer.settings
    if trainer.over:
        return
    loader = DataLoader(
        data,
        batch_size=None,
        num_workers=settings.workers,
        prefetch_factor=6 if settings.workers else None,
    )
    sums, count, images = np.zeros(3), 0, 0
    saved = started = time.monotonic()
    for batch in loader:
        losses = trainer.train_batch(batch)
        sums += [losses.score.item(), losses.box.item(), losses.point.item()]
        count += 1
        images += len(batch.images)
        if trainer.step % CURVE_EVERY == 0:
            score, box, point = sums / count
            seconds, started = time.monotonic() - started, time.monotonic()
            curve.add(
                step=trainer.step,
                values={
                    "score loss": score,
                    "box loss": box,
                    "landmark loss": point,
                    "rate (share of peak)": trainer.share,
                    "images per second": images / seconds,
                },
            )
            sums[:], count, images = 0, 0, 0
        if time.monotonic() - saved > settings.save_every_s:
            trainer.save(checkpoint)
            saved = time.monotonic()
        yield
        if trainer.over:
            return

"""Training of the lite detector on composed scenes, with averaged weights; resumable."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from tools.training.common import (
    Budget,
    LearningCurve,
    best_device,
    bfloat16_pays,
    load_checkpoint,
    seed_everything,
)
from tools.training.detection.batches import Batch, ComposedBatches
from tools.training.detection.compose import training_composer
from tools.training.detection.loss import Losses, detection_loss
from tools.training.detection.network import Block, LiteDetector, NetConfig, flatten
from tools.training.detection.settings import TrainSettings
from tools.training.detection.warm_start import read_detector
from tools.training.loop import Learner, Means, after_seconds, run
from tools.training.muon import Muon
from tools.training.net2net import grow

BETAS = (0.9, 0.99)
CURVE_EVERY = 100  # steps


def rate_share(step: int, done: float, settings: TrainSettings) -> float:
    """Share of the peak rates: rising at first, then falling to nearly 0 with `done`."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    return max(0.005, 1 - done)


def split_weights(model: LiteDetector) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Split the weights: convolutions that mix channels before a batch norm, and the rest."""
    turned: list[torch.Tensor] = []
    plain: list[torch.Tensor] = []
    for name, weight in model.named_parameters():
        mixes = weight.ndim == 4 and weight.shape[1] > 1
        (turned if mixes and not name.endswith("out.weight") else plain).append(weight)
    return turned, plain


class Trainer(Learner[LiteDetector]):
    """The training of the detector."""

    def __init__(self, settings: TrainSettings, config: NetConfig) -> None:
        self.settings = settings
        self.config = config
        self.device = best_device()
        self.half = bfloat16_pays(self.device.type)
        model = LiteDetector(config).to(memory_format=torch.channels_last)
        self.model = model.to(self.device).train()
        turned, plain = split_weights(self.model)
        muon = Muon(turned, lr=settings.muon_rate, half=self.half)
        adam = torch.optim.AdamW(
            plain, lr=settings.adam_rate, betas=BETAS, weight_decay=0.0, fused=True
        )
        super().__init__(
            self.model,
            ((muon, settings.muon_rate), (adam, settings.adam_rate)),
            budget=Budget(settings.steps, settings.minutes),
            average=settings.average,
        )

    @property
    def share(self) -> float:
        """Share of the peak rates for the next step."""
        return rate_share(self.step, self.budget.done(self.step), self.settings)

    def start(self, path: Path, images: torch.Tensor) -> None:
        """Start from the network in an ONNX file; images: ``[B,3,S,S]`` uint8 scenes."""
        known = read_detector(path, images.float().sub(127.5).div(128.0))
        grow(known, self.model, block=Block)
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())

    def state(self) -> dict[str, Any]:
        """Return a checkpoint's content; `load_average` builds the network from it."""
        return super().state() | {
            "config": asdict(self.config),
            "settings": asdict(self.settings),
        }

    def train_batch(self, batch: Batch) -> Losses:
        """Take one step; returns the losses before it."""
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
        self.descend(losses.total, share=self.share)
        return losses


def load_average(path: Path) -> tuple[LiteDetector, int]:
    """Load the averaged network of a checkpoint, for inference, and its number of steps."""
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
    """Train on the cache that `dataset.prepare` wrote; returns the checkpoint's path.

    Without a checkpoint, training starts from the ONNX file `start` (if given). `teacher`, a
    network in SCRFD's layout, gives the targets of every scene.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # a thread pool would not survive the fork of the workers
    checkpoint = out / "checkpoint.pt"
    seed_everything(settings.seed)
    trainer = Trainer(settings, config)
    curve = LearningCurve(out / "curve.json")
    composer = training_composer(cache, settings)
    if resume and trainer.load(checkpoint):
        curve.load(up_to_step=trainer.step)
    elif start is not None:
        rng = np.random.default_rng(settings.seed)
        scenes = [composer.sample(rng, 256).image for _ in range(64)]
        trainer.start(start, torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2))
    # a resumed run draws new scenes
    data = ComposedBatches(
        composer, settings=settings, seed=settings.seed + trainer.step, teacher=teacher
    )
    run(
        trainer,
        steps_on(trainer, data, curve),
        title="detection",
        checkpoint=checkpoint,
        due=after_seconds(settings.save_every_s),
    )
    return checkpoint


def steps_on(trainer: Trainer, data: ComposedBatches, curve: LearningCurve) -> Callable[[], None]:
    """Return the function that trains on the next batch and records the curve."""
    batches = _endless(data, workers=trainer.settings.workers)
    means = Means("score loss", "box loss", "landmark loss")
    images, started = 0, time.monotonic()

    def advance() -> None:
        nonlocal images, started
        batch = next(batches)
        losses = trainer.train_batch(batch)
        means.add(losses.score.item(), losses.box.item(), losses.point.item())
        images += len(batch.images)
        if trainer.step % CURVE_EVERY == 0:
            seconds, started = time.monotonic() - started, time.monotonic()
            values = means.take() | {
                "rate (share of peak)": trainer.share,
                "images per second": images / seconds,
            }
            curve.add(step=trainer.step, values=values)
            images = 0

    return advance


def _endless(data: ComposedBatches, *, workers: int) -> Iterator[Batch]:
    # the processes start with the first batch: without steps left none are needed
    yield from DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=6 if workers else None,
    )

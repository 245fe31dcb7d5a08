"""Training of the lite detector: composed scenes in, an averaged network out; resumable."""

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from tools.training.common import (
    Budget,
    LearningCurve,
    best_device,
    halves_pay,
    load_checkpoint,
    progress,
    save_checkpoint,
    seed_everything,
    update_average,
)
from tools.training.detection.batches import Batch, ComposedBatches
from tools.training.detection.compose import training_composer
from tools.training.detection.loss import Losses, detection_loss
from tools.training.detection.net import Block, LiteDetector, NetConfig, flatten
from tools.training.detection.settings import TrainSettings
from tools.training.detection.warm_start import read_detector
from tools.training.muon import Muon
from tools.training.net2net import grow

BETAS = (0.9, 0.99)
CURVE_EVERY = 100  # steps


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
    composer = training_composer(cache, settings)
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

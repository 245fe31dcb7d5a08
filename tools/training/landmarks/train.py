"""Training of the refiner: lessons in, an averaged network out; resumable."""

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.training.common import (
    Budget,
    LearningCurve,
    best_device,
    load_checkpoint,
    progress,
    save_checkpoint,
    seed_everything,
    update_average,
)
from tools.training.detection.sample import MIRRORED
from tools.training.landmarks.dataset import Lessons
from tools.training.landmarks.net import Refiner
from tools.training.muon import Muon

CURVE_EVERY = 100  # steps
NARROWEST = 0.15  # halves of a crop: the eyes of profiles fall together and are no yardstick
AVERAGE = 0.999
SHOWN_WEIGHS = 0.5  # of the loss: landmarks by the crop alone


@dataclass(frozen=True, slots=True)
class Plan:
    """steps, or minutes where they end sooner; batch: faces in a step."""

    steps: int = 12_000
    minutes: float | None = None
    batch: int = 256
    seed: int = 7
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    warmup: int = 100
    save_every_s: float = 120.0


def landmark_loss(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance ``[]`` of landmarks ``[B,10]`` in distances between the eyes."""
    mine, theirs = points.view(-1, 5, 2), truth.view(-1, 5, 2)
    eyes = (theirs[:, 1] - theirs[:, 0]).norm(dim=1).clamp(min=NARROWEST)
    away = ((mine - theirs).square().sum(dim=2) + 1e-5).sqrt()
    return (away.mean(dim=1) / eyes).mean()


def varied(crops: Tensor, *points: Tensor) -> tuple[Tensor, ...]:
    """Mirror every other one of ``[B,3,S,S]`` with its ``[B,5,2]``; other light, a tenth grey."""
    count, device = len(crops), crops.device
    turned = (torch.rand(count, device=device) < 0.5).view(-1, 1, 1)
    across = torch.tensor([-1.0, 1.0], device=device)
    order = torch.tensor(MIRRORED, device=device)
    moved = [torch.where(turned, each[:, order] * across, each) for each in points]
    crops = torch.where(turned[:, None], crops.flip(3), crops)
    gain = 1 + 0.2 * torch.randn(count, 1, 1, 1, device=device)
    light = 0.15 * torch.randn(count, 1, 1, 1, device=device)
    tint = 0.05 * torch.randn(count, 3, 1, 1, device=device)
    grey = torch.rand(count, 1, 1, 1, device=device) < 0.1
    crops = torch.where(grey, crops.mean(dim=1, keepdim=True), crops)
    return crops * gain + light + tint, *moved


class Trainer:
    """The network, its average and optimisers, and how far they are."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = best_device()
        self.model = Refiner().to(self.device, memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.model).eval()
        turned = [w for n, w in self.model.named_parameters() if w.ndim > 1 and "out" not in n]
        known = {id(weight) for weight in turned}
        plain = [weight for weight in self.model.parameters() if id(weight) not in known]
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            Muon(turned, lr=plan.muon_rate),
            torch.optim.AdamW(plain, lr=plan.adam_rate, weight_decay=0.0),
        )
        self.step = 0
        self.budget = Budget(plan.steps, plan.minutes)

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

    def save(self, path: Path) -> None:
        """Write a checkpoint that `load` takes."""
        save_checkpoint(
            path,
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "step": self.step,
            },
        )

    def train_batch(self, crops: Tensor, offered: Tensor, truth: Tensor) -> tuple[float, float]:
        """One step on ``[B,S,S,3]`` uint8 and ``[B,5,2]``; both errors before it."""
        share = max(0.005, 1 - self.budget.done(self.step))
        share *= min(1.0, (self.step + 1) / self.plan.warmup)
        rates = (self.plan.muon_rate, self.plan.adam_rate)
        for optimiser, rate in zip(self.optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * share
        pixels = crops.to(self.device).permute(0, 3, 1, 2).float().sub(127.5).div(128)
        images, mine, theirs = varied(pixels, offered.to(self.device), truth.to(self.device))
        points, shown = self.model.both(images, mine.flatten(1))
        error, alone = (landmark_loss(each, theirs.flatten(1)) for each in (points, shown))
        self.model.zero_grad(set_to_none=True)
        (error + SHOWN_WEIGHS * alone).backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        decay = min(AVERAGE, self.step / (self.step + 10))
        update_average(self.average, self.model, decay)
        return error.item(), alone.item()


def train(lessons: Lessons, *, out: Path, plan: Plan, resume: bool) -> tuple[Refiner, int]:
    """Train on `lessons`; returns the averaged network, ready to infer, and its steps."""
    seed_everything(plan.seed)
    checkpoint = out / "refiner.pt"
    trainer = Trainer(plan)
    curve = LearningCurve(out / "refiner_curve.json")
    if resume and trainer.load(checkpoint):
        curve.load(up_to_step=trainer.step)
        torch.manual_seed(plan.seed + trainer.step)  # other draws than the ones it has seen
    parts = [torch.from_numpy(part) for part in (lessons.crops, lessons.offered, lessons.truth)]
    count, views = parts[0].shape[:2]
    saved, errors = time.monotonic(), np.zeros(2)
    with progress() as bar:
        task = bar.add_task("landmarks", total=plan.steps, completed=trainer.step)
        while (done := trainer.budget.done(trainer.step)) < 1:
            bar.update(task, completed=round(done * plan.steps))
            drawn = torch.randint(count, (plan.batch,)), torch.randint(views, (plan.batch,))
            errors += trainer.train_batch(*(part[drawn] for part in parts))
            if trainer.step % CURVE_EVERY == 0:
                refined, alone = errors / CURVE_EVERY
                curve.add(step=trainer.step, values={"error": refined, "by the crop alone": alone})
                errors[:] = 0
            if time.monotonic() - saved > plan.save_every_s:
                trainer.save(checkpoint)
                saved = time.monotonic()
        bar.update(task, completed=plan.steps)
    trainer.save(checkpoint)
    return trainer.average.cpu().eval(), trainer.step

"""Training of the refiner: with averaged weights; resumable."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tools.training.common import (
    Budget,
    LearningCurve,
    best_device,
    seed_everything,
)
from tools.training.landmarks.augment import varied
from tools.training.landmarks.dataset import LandmarkDataset
from tools.training.landmarks.loss import landmark_loss
from tools.training.landmarks.network import Refiner
from tools.training.loop import Learner, Means, after_seconds, run
from tools.training.muon import Muon

CURVE_EVERY = 100  # steps
AVERAGE = 0.999
SHOWN_WEIGHS = 0.5  # weight of the loss of landmarks from the crop alone


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings: steps or minutes (whichever ends first); batch: faces in a step."""

    steps: int = 12_000
    minutes: float | None = None
    batch: int = 256
    seed: int = 7
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    warmup: int = 100
    save_every_s: float = 120.0


class Trainer(Learner[Refiner]):
    """The refiner that learns."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.device = best_device()
        self.model = Refiner().to(self.device, memory_format=torch.channels_last).train()
        turned = [w for n, w in self.model.named_parameters() if w.ndim > 1 and "out" not in n]
        known = {id(weight) for weight in turned}
        plain = [weight for weight in self.model.parameters() if id(weight) not in known]
        muon = Muon(turned, lr=settings.muon_rate)
        adam = torch.optim.AdamW(plain, lr=settings.adam_rate, weight_decay=0.0)
        super().__init__(
            self.model,
            ((muon, settings.muon_rate), (adam, settings.adam_rate)),
            budget=Budget(settings.steps, settings.minutes),
            average=AVERAGE,
        )

    def train_batch(self, crops: Tensor, offered: Tensor, truth: Tensor) -> tuple[float, float]:
        """Take one step on ``[B,S,S,3]`` uint8 and ``[B,5,2]``; returns both errors before it."""
        share = max(0.005, 1 - self.budget.done(self.step))
        share *= min(1.0, (self.step + 1) / self.settings.warmup)
        pixels = crops.to(self.device).permute(0, 3, 1, 2).float().sub(127.5).div(128)
        images, mine, theirs = varied(pixels, offered.to(self.device), truth.to(self.device))
        points, shown = self.model.both(images, mine.flatten(1))
        error, alone = (landmark_loss(each, theirs.flatten(1)) for each in (points, shown))
        self.descend(error + SHOWN_WEIGHS * alone, share=share)
        return error.item(), alone.item()


def train(
    examples: LandmarkDataset, *, out: Path, settings: TrainSettings, resume: bool
) -> tuple[Refiner, int]:
    """Train on `examples`; returns the averaged network, for inference, and its steps."""
    seed_everything(settings.seed)
    checkpoint = out / "refiner.pt"
    trainer = Trainer(settings)
    curve = LearningCurve(out / "refiner_curve.json")
    if resume and trainer.load(checkpoint):
        curve.load(up_to_step=trainer.step)
        torch.manual_seed(settings.seed + trainer.step)  # a resumed run draws new examples
    parts = [torch.from_numpy(part) for part in (examples.crops, examples.offered, examples.truth)]
    count, views = parts[0].shape[:2]
    means = Means("error", "by the crop alone")

    def advance() -> None:
        drawn = torch.randint(count, (settings.batch,)), torch.randint(views, (settings.batch,))
        means.add(*trainer.train_batch(*(part[drawn] for part in parts)))
        if trainer.step % CURVE_EVERY == 0:
            curve.add(step=trainer.step, values=means.take())

    run(
        trainer,
        advance,
        title="landmarks",
        checkpoint=checkpoint,
        due=after_seconds(settings.save_every_s),
    )
    return trainer.smoothed.cpu().eval(), trainer.step

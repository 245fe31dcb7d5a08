"""Distillation of the `face_embedding` lite student from a larger ArcFace network.

The student learns from degraded views: the direction of the teacher's embedding of the clean face
(mean of the clean and the mirrored view), and the similarities within each batch. Resolution rises
in steps; the learning rate falls linearly to zero. All random numbers derive from the seed and the
step's number, so that a resumed run sees the same data as an uninterrupted one. On a CPU views come
from `views` and `mixing`, on a GPU from `on_device`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tools.evaluation.views import VIEW, Recipe, make_batch
from tools.training.common import (
    Budget,
    LearningCurve,
    best_device,
    bfloat16_pays,
    load_checkpoint,
    log,
    seed_everything,
)
from tools.training.embedding.crops import normalise
from tools.training.embedding.faces import Faces, load_faces
from tools.training.embedding.loss import distillation_loss
from tools.training.embedding.mixing import mixture
from tools.training.embedding.network import Bottleneck, Shape, Student, export_student, role
from tools.training.embedding.on_device import DeviceViews
from tools.training.embedding.warm_start import read_student
from tools.training.loop import Learner, after_steps, run
from tools.training.muon import Muon
from tools.training.net2net import grow
from tools.training.onnx_network import OnnxNetwork


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """One training run."""

    steps: int = 5000
    minutes: float | None = None
    """Longest training, even with steps left (`Budget`)."""
    batch: int = 128
    seed: int = 1
    muon_rate: float = 0.03
    """Relative length of a step of the convolutions at the peak."""
    adam_rate: float = 2e-3
    warm_up: float = 0.04
    """Share of the steps with a rising rate."""
    mixed: float = 0.4
    """Share of mixtures of two faces in a batch, if the cache has mixtures."""
    structure: float = 4.0
    """Weight of the squared error of similarities within a batch."""
    sides: tuple[tuple[float, int], ...] = ((0.3, 64), (0.65, 80), (1.0, VIEW))
    """View side in pixels (multiples of 16) up to a share of the steps."""
    save_every: int = 100
    measure_every: int = 250

    def side(self, done: float) -> int:
        """Return the side of the views in pixels after a share `done` of the training."""
        return next(side for share, side in self.sides if done < share or share >= 1)

    def rate(self, done: float) -> float:
        """Return the share of the peak rate after a share `done`: linear up, then down to zero."""
        return min(done / self.warm_up, (1 - done) / (1 - self.warm_up)) if done < 1 else 0.0


Supply = Callable[[int, int], tuple[Tensor, Tensor]]
"""The views [B,3,S,S] float32 in -1..1 and unit targets [B,D] of a step, for a side S."""


def to_tensor(views: NDArray[np.uint8]) -> Tensor:
    """[N,S,S,3] uint8 -> [N,3,S,S] float32 in -1..1, channels last in memory."""
    return torch.from_numpy(views).permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)


def places_of(step: int, *, count: int, settings: TrainSettings) -> NDArray[np.int64]:
    """Return the positions (of `count` faces) of a step; every epoch is shuffled differently."""
    epoch, place = divmod(step, max(1, count // settings.batch))
    order = np.random.default_rng((settings.seed, 1, epoch)).permutation(count)
    return order[place * settings.batch : (place + 1) * settings.batch]


def draw(
    faces: Faces, places: NDArray[np.int64], *, mixed: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the crops [B,CROP,CROP,3] and the teacher's unit embeddings [B,D] of one step.

    Mixtures replace the last `mixed` of the training faces at `places`.
    """
    rows = faces.train[places[: len(places) - mixed]]
    indices = rng.integers(0, max(1, len(faces.mixed)), mixed)
    crops = [faces.crops[row] for row in rows]
    crops += [mixture(faces.crops, faces.train, int(index)) for index in indices]
    targets = np.concatenate([faces.teacher[rows], faces.mixed[indices]]).sum(1)
    return np.stack(crops), targets / np.linalg.norm(targets, axis=1, keepdims=True)


def supply_views(faces: Faces, settings: TrainSettings, recipe: Recipe) -> Supply:
    """Supply views made on the CPU, face by face."""
    mixed = round(settings.mixed * settings.batch) if len(faces.mixed) else 0

    def supply(step: int, side: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((settings.seed, 2, step))
        places = places_of(step, count=len(faces.train), settings=settings)
        crops, targets = draw(faces, places, mixed=mixed, rng=rng)
        views, _ = make_batch(crops, np.arange(len(crops)), side=side, recipe=recipe, rng=rng)
        return to_tensor(views), torch.from_numpy(targets)

    return supply


def supply_from_device(
    faces: Faces, settings: TrainSettings, recipe: Recipe, *, teacher: Path
) -> Supply:
    """Views made on the GPU, in batches."""
    network = OnnxNetwork(teacher).to(best_device())
    crops = np.asarray(faces.crops[faces.train])
    views = DeviceViews(crops, teacher=network, recipe=recipe, mixed=settings.mixed)

    def supply(step: int, side: int) -> tuple[Tensor, Tensor]:
        return views.make(settings.batch, side=side, seed=settings.seed * 10**7 + step)

    return supply


class Training(Learner[Student]):
    """The student that learns."""

    model_key = "student"

    def __init__(self, settings: TrainSettings, shape: Shape, *, folder: Path) -> None:
        seed_everything(settings.seed)
        self.settings, self.folder = settings, folder
        self.device = best_device()
        self.half = bfloat16_pays(self.device.type)
        self.student = Student(shape).to(self.device, memory_format=torch.channels_last)
        turned: list[Tensor] = []
        plain: list[Tensor] = []
        for name, weight in self.student.named_parameters():
            dense = weight.ndim == 4 and weight.shape[1] > 3
            (turned if (dense and "body" in name) or "widen.0.0" in name else plain).append(weight)
        muon = Muon(turned, lr=settings.muon_rate, half=self.half)
        adam = torch.optim.AdamW(plain, lr=settings.adam_rate, weight_decay=0.01, betas=(0.9, 0.98))
        super().__init__(
            self.student,
            ((muon, settings.muon_rate), (adam, settings.adam_rate)),
            budget=Budget(settings.steps, settings.minutes),
        )
        self.curve = LearningCurve(folder / "curve.json")

    @property
    def checkpoint(self) -> Path:
        """Path of the run's latest checkpoint."""
        return self.folder / "last.pt"

    def state(self) -> dict[str, Any]:
        """Return a checkpoint's content; `load_student` builds the network from it."""
        return super().state() | {
            "plan": asdict(self.settings),
            "shape": asdict(self.student.shape),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a checkpoint's content, as from `state`."""
        super().restore(state)
        # a network trained at 112 px needs no training at lower resolutions again
        self.settings = replace(self.settings, sides=state["plan"]["sides"])
        self.curve.load(up_to_step=self.step)

    def start(self, path: Path, views: Tensor) -> None:
        """Start from the student in an ONNX file; views [N,3,112,112] give norm statistics.

        Raises:
            ValueError: if the file has a wider or deeper student.
        """
        grow(read_student(path, views), self.student, block=Bottleneck, role=role)

    def learn(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step on views [B,3,S,S] and unit targets [B,D]; returns loss and cosine."""
        share = self.settings.rate(self.budget.done(self.step + 1))
        self.student.train()
        views = views.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            found = self.student(views)
        loss, cosine = distillation_loss(
            found.float(), targets.to(self.device), structure=self.settings.structure
        )
        self.descend(loss, share=share)
        return loss.detach(), cosine.detach()


@torch.no_grad()
def embed_clean(
    student: Student, crops: NDArray[np.uint8], *, side: int = VIEW
) -> NDArray[np.float32]:
    """Unit-length [N,2,D] of the clean and the mirrored view of crops [N,S,S,3] uint8."""
    student.eval()
    device = next(student.parameters()).device
    rows = []
    for start in range(0, len(crops), 64):
        views = torch.from_numpy(normalise(crops[start : start + 64])).to(device)
        if side != VIEW:
            views = functional.interpolate(views, (side, side), mode="bilinear", antialias=True)
        both = torch.cat([views, views.flip(3)]).contiguous(memory_format=torch.channels_last)
        rows.append(functional.normalize(student(both)).reshape(2, -1, student.shape.dimension))
    return torch.cat(rows, 1).permute(1, 0, 2).cpu().numpy()


def measure(
    student: Student, faces: Faces, rows: NDArray[np.int64], *, side: int = VIEW
) -> dict[str, float]:
    """Mean cosine to the teacher's clean view, single and with the mirrored view added.

    The views have `side` px, the current resolution of the training.
    """
    found = embed_clean(student, np.asarray(faces.crops[rows]), side=side)
    teacher = faces.teacher[rows, 0]
    both = found.sum(1)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    above = np.triu_indices(len(rows), 1)
    return {
        "held_out_cosine": float((found[:, 0] * teacher).sum(1).mean()),
        "held_out_cosine_mirrored": float((both * teacher).sum(1).mean()),
        "similarity_correlation": float(
            np.corrcoef((both @ both.T)[above], (teacher @ teacher.T)[above])[0, 1]
        ),
    }


def train(
    *,
    cache: Path,
    folder: Path,
    settings: TrainSettings,
    shape: Shape,
    resume: bool,
    start: Path | None = None,
    recipe: Recipe | None = None,
    teacher: Path | None = None,
) -> Path:
    """Train until the budget is spent; returns the checkpoint's path.

    Args:
        cache: the folder that `crops` wrote.
        folder: checkpoints, curve and log of this run.
        settings: steps or minutes, rates and sides.
        shape: the student's widths and depths.
        recipe: how views are degraded.
        resume: continue from the folder's checkpoint, with the rates and steps given here, but the
            checkpoint's sides.
        start: ONNX file of a student to start from, if there is no checkpoint.
        teacher: raw ONNX of the teacher; on a GPU it processes every view.
    """
    recipe = recipe or Recipe()
    faces = load_faces(cache)
    training = Training(settings, shape, folder=folder)
    if resume and training.load(training.checkpoint):
        log(f"resumed at step {training.step}")
        settings = training.settings
    elif start is not None:
        some = np.random.default_rng(settings.seed).choice(faces.train, settings.batch)
        training.start(start, torch.from_numpy(normalise(np.asarray(faces.crops[some]))))
    if training.device.type == "cuda" and teacher is not None:
        supply = supply_from_device(faces, settings, recipe, teacher=teacher)
    else:
        supply = supply_views(faces, settings, recipe)
    run_steps(training, supply, faces)
    training.curve.draw(
        title="face_embedding lite",
        panels=(
            ("loss",),
            ("train_cosine", "held_out_cosine", "held_out_cosine_mirrored"),
            ("similarity_correlation",),
        ),
    )
    return training.checkpoint


def run_steps(training: Training, supply: Supply, faces: Faces) -> None:
    """Train until the budget is spent, saving and measuring on the way and at the end."""
    settings, budget = training.settings, training.budget
    probe = faces.held_out[:: max(1, len(faces.held_out) // 512)]
    started, first = time.monotonic(), training.step
    means = torch.zeros(2, device=training.device)

    def advance() -> None:
        side = settings.side(budget.done(training.step))
        found = training.learn(*supply(training.step, side))
        done = training.step
        # read only when they are shown, so that a GPU does not wait
        means.lerp_(torch.stack(found), 1 / min(50, done - first))
        if done % settings.save_every == 0 or training.over:
            loss, cosine = means.tolist()
            rate = (done - first) * settings.batch / (time.monotonic() - started)
            log(
                f"step {done}/{settings.steps} side {side} loss {loss:.4f}"
                f" cosine {cosine:.4f} {rate:.0f} faces/s"
            )
        if done % settings.measure_every == 0 or training.over:
            loss, cosine = means.tolist()
            values = measure(training.student, faces, probe, side=side)
            log(json.dumps({name: round(value, 4) for name, value in values.items()}))
            training.curve.add(step=done, values=values | {"loss": loss, "train_cosine": cosine})

    run(
        training,
        advance,
        title="embedding",
        checkpoint=training.checkpoint,
        due=after_steps(settings.save_every),
    )


def load_student(checkpoint: Path) -> Student:
    """The student of a checkpoint.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
    """
    state = load_checkpoint(checkpoint)
    if state is None:
        raise FileNotFoundError(checkpoint)
    student = Student(Shape(**state["shape"]))
    student.load_state_dict(state["student"])
    return student.eval()


def export(*, checkpoint: Path, path: Path, mirrored: bool) -> None:
    """Writes the raw ONNX of a checkpoint."""
    export_student(load_student(checkpoint), path, mirrored=mirrored)


def describe(checkpoint: Path, *, note: str = "") -> dict[str, Any]:
    """Return settings, size and further facts of a checkpoint's student for its card."""
    state = load_checkpoint(checkpoint)
    if state is None:
        raise FileNotFoundError(checkpoint)
    weights = load_student(checkpoint).parameters()
    return {
        "parameters": sum(weight.numel() for weight in weights),
        "shape": state["shape"],
        "training": state["plan"] | {"done": state["step"], "note": note},
    }

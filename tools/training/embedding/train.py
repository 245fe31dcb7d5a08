"""Distillation of the `face_embedding` lite student from a larger ArcFace network.

The student learns the direction of the teacher's embedding of the clean face (mean of the clean and
the mirrored view) from degraded views, and the similarities within each batch. Resolution rises in
steps, the rate falls linearly to zero; everything random comes from the seed and the step's number,
so that a resumed run sees what an uninterrupted one would have seen. On a CPU views come from
`views` and `mixing`, on a GPU from `on_device`.
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
    halves_pay,
    load_checkpoint,
    log,
    progress,
    save_checkpoint,
    seed_everything,
)
from tools.training.embedding.crops import normalise
from tools.training.embedding.faces import Faces, load_faces
from tools.training.embedding.mixing import mixture
from tools.training.embedding.on_device import DeviceViews
from tools.training.embedding.student import Bottleneck, Shape, Student, export_student, role
from tools.training.embedding.warm_start import read_student
from tools.training.muon import Muon
from tools.training.net2net import grow
from tools.training.onnx_network import OnnxNetwork


@dataclass(frozen=True, slots=True)
class Plan:
    """One training run."""

    steps: int = 5000
    minutes: float | None = None
    """After which it ends even with steps left (`Budget`)."""
    batch: int = 128
    seed: int = 1
    muon_rate: float = 0.03
    """Relative length of a step of the convolutions at the peak."""
    adam_rate: float = 2e-3
    warm_up: float = 0.04
    """Share of the steps in which the rate rises."""
    mixed: float = 0.4
    """Share of a batch that are mixtures of two faces, where the cache has such."""
    structure: float = 4.0
    """Weight of the squared error of similarities within a batch."""
    sides: tuple[tuple[float, int], ...] = ((0.3, 64), (0.65, 80), (1.0, VIEW))
    """Until which share of the steps views have which side, pixels; multiples of 16."""
    save_every: int = 100
    measure_every: int = 250

    def side(self, done: float) -> int:
        """Side of the views, pixels, where a share `done` of the training is over."""
        return next(side for share, side in self.sides if done < share or share >= 1)

    def rate(self, done: float) -> float:
        """Share of the peak rate after a share `done`: linear up, linear down to zero."""
        return min(done / self.warm_up, (1 - done) / (1 - self.warm_up)) if done < 1 else 0.0


Supply = Callable[[int, int], tuple[Tensor, Tensor]]
"""The views [B,3,S,S] float32 in -1..1 and unit targets [B,D] of a step, for a side S."""


def to_tensor(views: NDArray[np.uint8]) -> Tensor:
    """[N,S,S,3] uint8 -> [N,3,S,S] float32 in -1..1, channels last in memory."""
    return torch.from_numpy(views).permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)


def distillation_loss(
    student: Tensor, teacher: Tensor, *, structure: float
) -> tuple[Tensor, Tensor]:
    """Loss and mean cosine of raw student embeddings [N,D] against unit teacher ones [N,D]."""
    unit = functional.normalize(student)
    cosine = (unit * teacher).sum(1).mean()
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    gap = (unit @ unit.T - teacher @ teacher.T)[others]
    return 1 - cosine + structure * gap.square().mean(), cosine


def places_of(step: int, *, count: int, plan: Plan) -> NDArray[np.int64]:
    """Places among `count` faces that a step sees; every epoch is a shuffle of its own."""
    epoch, place = divmod(step, max(1, count // plan.batch))
    order = np.random.default_rng((plan.seed, 1, epoch)).permutation(count)
    return order[place * plan.batch : (place + 1) * plan.batch]


def draw(
    faces: Faces, places: NDArray[np.int64], *, mixed: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crops [B,CROP,CROP,3] and the teacher's unit embeddings [B,D] of one step.

    The last `mixed` of the training faces at `places` give way to mixtures.
    """
    rows = faces.train[places[: len(places) - mixed]]
    indices = rng.integers(0, max(1, len(faces.mixed)), mixed)
    crops = [faces.crops[row] for row in rows]
    crops += [mixture(faces.crops, faces.train, int(index)) for index in indices]
    targets = np.concatenate([faces.teacher[rows], faces.mixed[indices]]).sum(1)
    return np.stack(crops), targets / np.linalg.norm(targets, axis=1, keepdims=True)


def supply_views(faces: Faces, plan: Plan, recipe: Recipe) -> Supply:
    """Views made on the processor, face by face."""
    mixed = round(plan.mixed * plan.batch) if len(faces.mixed) else 0

    def supply(step: int, side: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((plan.seed, 2, step))
        places = places_of(step, count=len(faces.train), plan=plan)
        crops, targets = draw(faces, places, mixed=mixed, rng=rng)
        views, _ = make_batch(crops, np.arange(len(crops)), side=side, recipe=recipe, rng=rng)
        return to_tensor(views), torch.from_numpy(targets)

    return supply


def supply_from_device(faces: Faces, plan: Plan, recipe: Recipe, *, teacher: Path) -> Supply:
    """Views made on the GPU, in batches."""
    network = OnnxNetwork(teacher).to(best_device())
    crops = np.asarray(faces.crops[faces.train])
    views = DeviceViews(crops, teacher=network, recipe=recipe, mixed=plan.mixed)

    def supply(step: int, side: int) -> tuple[Tensor, Tensor]:
        return views.make(plan.batch, side=side, seed=plan.seed * 10**7 + step)

    return supply


class Training:
    """A student with its optimisers, able to stop and go on."""

    def __init__(self, plan: Plan, shape: Shape, *, folder: Path) -> None:
        seed_everything(plan.seed)
        self.plan, self.folder, self.step = plan, folder, 0
        self.device = best_device()
        self.half = halves_pay(self.device.type)
        self.student = Student(shape).to(self.device, memory_format=torch.channels_last)
        turned: list[Tensor] = []
        plain: list[Tensor] = []
        for name, weight in self.student.named_parameters():
            dense = weight.ndim == 4 and weight.shape[1] > 3
            (turned if (dense and "body" in name) or "widen.0.0" in name else plain).append(weight)
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            Muon(turned, lr=plan.muon_rate, half=self.half),
            torch.optim.AdamW(plain, lr=plan.adam_rate, weight_decay=0.01, betas=(0.9, 0.98)),
        )
        self.budget = Budget(plan.steps, plan.minutes)
        self.curve = LearningCurve(folder / "curve.json")

    @property
    def checkpoint(self) -> Path:
        """Where the run's latest state lies."""
        return self.folder / "last.pt"

    def save(self) -> None:
        """Writes weights, optimisers and the step."""
        save_checkpoint(
            self.checkpoint,
            {
                "step": self.step,
                "plan": asdict(self.plan),
                "shape": asdict(self.student.shape),
                "student": self.student.state_dict(),
                "optimisers": [one.state_dict() for one in self.optimisers],
            },
        )

    def resume(self) -> bool:
        """Takes up the latest checkpoint; False where there is none."""
        state = load_checkpoint(self.checkpoint)
        if state is None:
            return False
        self.student.load_state_dict(state["student"])
        for one, saved in zip(self.optimisers, state["optimisers"], strict=True):
            one.load_state_dict(saved)
        self.step = state["step"]
        # what has learnt to see 112 px is not to learn to see fewer again
        self.plan = replace(self.plan, sides=state["plan"]["sides"])
        self.curve.load(up_to_step=self.step)
        return True

    def start(self, path: Path, views: Tensor) -> None:
        """Grows the student of an ONNX file; its norms are settled on views [N,3,112,112].

        Raises:
            ValueError: the file holds a wider or deeper student.
        """
        grow(read_student(path, views), self.student, block=Bottleneck, role=role)

    @property
    def over(self) -> bool:
        """Whether steps or time are spent."""
        return self.budget.done(self.step) >= 1

    def learn(self, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """One step on views [B,3,S,S] and unit targets [B,D]; returns loss and cosine."""
        share = self.plan.rate(self.budget.done(self.step + 1))
        for one, peak in zip(
            self.optimisers, (self.plan.muon_rate, self.plan.adam_rate), strict=True
        ):
            for group in one.param_groups:
                group["lr"] = peak * share
        self.student.train()
        views = views.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            found = self.student(views)
        loss, cosine = distillation_loss(
            found.float(), targets.to(self.device), structure=self.plan.structure
        )
        loss.backward()
        for one in self.optimisers:
            one.step()
            one.zero_grad(set_to_none=True)
        self.step += 1
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

    The student sees views of `side` px, the ones it is trained on at the time.
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
    plan: Plan,
    shape: Shape,
    resume: bool,
    start: Path | None = None,
    recipe: Recipe | None = None,
    teacher: Path | None = None,
) -> Path:
    """Trains to the end of the plan; returns the checkpoint's path.

    Args:
        cache: what `crops` prepared.
        folder: checkpoints, curve and log of this run.
        plan: steps or minutes, rates and sides.
        shape: the student's widths and depths.
        recipe: how views are degraded.
        resume: go on from the folder's checkpoint, with this plan's rates and steps, and
            the sides of its own.
        start: ONNX file of a student whose weights to begin with, where there is no checkpoint.
        teacher: raw ONNX of the teacher, which is asked about every view where there is a GPU.
    """
    recipe = recipe or Recipe()
    faces = load_faces(cache)
    training = Training(plan, shape, folder=folder)
    if resume and training.resume():
        log(f"resumed at step {training.step}")
        plan = training.plan
    elif start is not None:
        some = np.random.default_rng(plan.seed).choice(faces.train, plan.batch)
        training.start(start, torch.from_numpy(normalise(np.asarray(faces.crops[some]))))
    if training.device.type == "cuda" and teacher is not None:
        supply = supply_from_device(faces, plan, recipe, teacher=teacher)
    else:
        supply = supply_views(faces, plan, recipe)
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
    """Trains until the budget is spent, saving and measuring on the way and at the end."""
    plan, budget = training.plan, training.budget
    probe = faces.held_out[:: max(1, len(faces.held_out) // 512)]
    started, first = time.monotonic(), training.step
    means = torch.zeros(2, device=training.device)
    with progress() as bar:
        task = bar.add_task("embedding", total=plan.steps, completed=training.step)
        while not training.over:
            side = plan.side(budget.done(training.step))
            told = training.learn(*supply(training.step, side))
            done = training.step
            # read only where they are shown: a GPU need not wait for that
            means.lerp_(torch.stack(told), 1 / min(50, done - first))
            bar.update(task, completed=round(budget.done(done) * plan.steps))
            if done % plan.save_every == 0 or training.over:
                training.save()
                loss, cosine = means.tolist()
                rate = (done - first) * plan.batch / (time.monotonic() - started)
                log(
                    f"step {done}/{plan.steps} side {side} loss {loss:.4f}"
                    f" cosine {cosine:.4f} {rate:.0f} faces/s"
                )
            if done % plan.measure_every == 0 or training.over:
                loss, cosine = means.tolist()
                values = measure(training.student, faces, probe, side=side)
                log(json.dumps({name: round(value, 4) for name, value in values.items()}))
                values |= {"loss": loss, "train_cosine": cosine}
                training.curve.add(step=done, values=values)
    training.save()


def load_student(checkpoint: Path) -> Student:
    """The student of a checkpoint.

    Raises:
        FileNotFoundError: there is no such checkpoint.
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
    """The plan and the size of a checkpoint's student, and what else its card must say."""
    state = load_checkpoint(checkpoint)
    if state is None:
        raise FileNotFoundError(checkpoint)
    weights = load_student(checkpoint).parameters()
    return {
        "parameters": sum(weight.numel() for weight in weights),
        "shape": state["shape"],
        "training": state["plan"] | {"done": state["step"], "note": note},
    }

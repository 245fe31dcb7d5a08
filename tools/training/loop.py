"""The training loop of all networks: state, checkpoints, budget, mean values."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tools.training.common import (
    Budget,
    load_checkpoint,
    progress,
    save_checkpoint,
    update_average,
)

Network = TypeVar("Network", bound=nn.Module)


class Learner(Generic[Network]):
    """A network with its optimisers, optional running average, and number of steps."""

    model_key: ClassVar[str] = "model"
    """Name of the weights in a checkpoint."""

    def __init__(
        self,
        model: Network,
        optimisers: Sequence[tuple[torch.optim.Optimizer, float]],
        *,
        budget: Budget,
        average: float | None = None,
    ) -> None:
        """Begin at step 0.

        Args:
            model: on its device.
            optimisers: each with its rate at the peak.
            budget: steps or minutes.
            average: decay of the running average of the weights; unset: no average.
        """
        self.network = model
        self.average = None if average is None else copy.deepcopy(model).eval()
        self.optimisers = tuple(optimiser for optimiser, _ in optimisers)
        self.budget = budget
        self.step = 0
        self._peaks = tuple(peak for _, peak in optimisers)
        self._decay = average

    @property
    def smoothed(self) -> Network:
        """The running average, or the network itself if there is none."""
        return self.network if self.average is None else self.average

    @property
    def over(self) -> bool:
        """Whether the budget is used up."""
        return self.budget.done(self.step) >= 1

    def load(self, path: Path) -> bool:
        """Resume from a checkpoint; false if there is none."""
        state = load_checkpoint(path)
        if state is None:
            return False
        self.restore(state)
        return True

    def save(self, path: Path) -> None:
        """Write a checkpoint that `load` takes."""
        save_checkpoint(path, self.state())

    def state(self) -> dict[str, Any]:
        """Return a checkpoint's content; subclasses add the network's description."""
        kept = {
            self.model_key: self.network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
        }
        if self.average is not None:
            kept["average"] = self.average.state_dict()
        return kept

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a checkpoint's content, as from `state`."""
        self.network.load_state_dict(state[self.model_key])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step = int(state["step"])

    def descend(self, loss: Tensor, *, share: float) -> None:
        """Take one step down the gradient of `loss` [], at this share of the peak rates."""
        self.network.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser, peak in zip(self.optimisers, self._peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * share
            optimiser.step()
        self.step += 1
        if self.average is not None and self._decay is not None:
            # early in training the average must forget the random weights
            decay = min(self._decay, self.step / (self.step + 10))
            update_average(self.average, self.network, decay)


class Means:
    """Means of values since the last call of `take`."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._sums = np.zeros(len(names))
        self._count = 0

    def add(self, *values: float) -> None:
        """Add one value for each name."""
        self._sums += values
        self._count += 1

    def take(self) -> dict[str, float]:
        """Return the means by name, and reset them."""
        means = self._sums / max(self._count, 1)
        self._sums, self._count = np.zeros(len(self._names)), 0
        return dict(zip(self._names, means.tolist(), strict=True))


def after_seconds(seconds: float) -> Callable[[int], bool]:
    """Return a function that is true once this time has passed since the last checkpoint."""
    last = time.monotonic()

    def due(_: int) -> bool:
        nonlocal last
        passed = time.monotonic() - last > seconds
        if passed:
            last = time.monotonic()
        return passed

    return due


def after_steps(steps: int) -> Callable[[int], bool]:
    """Return a function that is true after every `steps` steps."""
    return lambda step: step % steps == 0


def run(
    learner: Learner[Any],
    advance: Callable[[], None],
    *,
    title: str,
    checkpoint: Path,
    due: Callable[[int], bool],
) -> None:
    """Call `advance`, which takes one step, until the budget is spent.

    Args:
        learner: the network with its state.
        advance: takes a step and records its values.
        title: of the progress bar.
        checkpoint: file, written when `due` is true for the number of steps, and at the end.
        due: see `after_seconds`, `after_steps`.
    """
    steps = learner.budget.steps
    with progress() as bar:
        task = bar.add_task(title, total=steps, completed=learner.step)
        while not learner.over:
            advance()
            bar.update(task, completed=round(learner.budget.done(learner.step) * steps))
            if due(learner.step):
                learner.save(checkpoint)
    learner.save(checkpoint)

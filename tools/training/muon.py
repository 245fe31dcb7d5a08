"""Muon (Jordan 2024) for convolutions followed by batch norm, with constant weight norms.

The momentum is orthogonalised before each step. Batch norm makes the scale of such a weight
irrelevant. So a step is relative to the weight's norm, which is restored after the step; the
learning rate is then the angle by which the weight rotates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalise(matrix: Tensor, *, rounds: int = 5, half: bool = False) -> Tensor:
    """[M,N] -> the nearest semi-orthogonal matrix, roughly (quintic Newton-Schulz iteration).

    half: multiply in bfloat16, whose precision suffices (Jordan 2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    if half:
        x = x.bfloat16()
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Takes steps of the relative length `lr` along the orthogonalised momentum.

    half: orthogonalise in bfloat16.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        half: bool = False,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})
        self._half = half

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every weight that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._turn(weight, rate=group["lr"], momentum=group["momentum"])

    def _turn(self, weight: Tensor, *, rate: float, momentum: float) -> None:
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
            state["length"] = weight.norm()
        mean: Tensor = state["mean"]
        mean.lerp_(weight.grad, 1 - momentum)
        ahead = weight.grad.lerp(mean, momentum)
        turned = orthogonalise(ahead.reshape(len(weight), -1), half=self._half)
        turned = turned.reshape(weight.shape)
        weight.sub_(turned * (rate * state["length"] / (turned.norm() + 1e-7)))
        weight.mul_(state["length"] / weight.norm())

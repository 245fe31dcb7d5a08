"""A small ensemble of perceptrons on unit-length embeddings, in NumPy: no torch, one seed.

All members train side by side as stacked matrices. Dropout and fresh noise on every view keep
thousands of weights from learning two thousand ratings by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the ensemble is built and trained."""

    members: int = 6
    hidden: int = 128
    epochs: int = 60
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    """Weight decay per unit of rate."""
    dropout: float = 0.3
    noise: float = 0.07
    """Standard deviation of the noise on each coordinate of a unit-length embedding."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Perceptrons:
    """`mean over members of W3 silu(W2 silu(W1 x))`, with biases."""

    weights: tuple[Floats, Floats, Floats]
    """[M,D,H], [M,H,H], [M,H,1]"""
    biases: tuple[Floats, Floats, Floats]
    """[M,1,H], [M,1,H], [M,1,1]"""

    def predict(self, embeddings: Floats) -> Floats:
        """[N,D] -> [N]."""
        layer = embeddings[None]
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            layer = layer @ weight + bias
            if place < 2:
                layer = layer * _sigmoid(layer)
        return np.asarray(layer.mean(0)[:, 0], np.float32)


def fit_perceptrons(
    views: Floats, targets: NDArray[np.float64], *, settings: Settings | None = None
) -> Perceptrons:
    """Fits the ensemble by AdamW on a smooth absolute error.

    Args:
        views: [N,V,D] float32 unit length, V views of each face.
        targets: [N], of about unit variance.
        settings: what to build; every random number comes from its seed.
    """
    chosen = settings or Settings()
    rng = np.random.default_rng(chosen.seed)
    count, kinds, width = views.shape
    # Inputs of unit variance per coordinate suit the first layer; its weights take the scale up.
    scale = np.float32(np.sqrt(width))
    sizes = ((width, chosen.hidden), (chosen.hidden, chosen.hidden), (chosen.hidden, 1))
    weights = [
        rng.uniform(-1, 1, (chosen.members, fan, out)).astype(np.float32) / np.float32(fan**0.5)
        for fan, out in sizes
    ]
    biases = [np.zeros((chosen.members, 1, out), np.float32) for _, out in sizes]
    steps = chosen.epochs * max(1, count // chosen.batch)
    adam = _Adam([*weights, *biases])
    for step in range(steps):
        rows = rng.integers(0, count, (chosen.members, min(chosen.batch, count)))
        batch = views[rows, rng.integers(0, kinds, rows.shape)]
        batch = batch + chosen.noise * rng.standard_normal(batch.shape, np.float32)
        batch *= scale / np.linalg.norm(batch, axis=-1, keepdims=True)
        slopes = _gradients(
            weights, biases, batch, targets[rows][..., None], dropout=chosen.dropout, rng=rng
        )
        done = (step + 1) / steps
        rate = chosen.rate * min(done / 0.3, (1 - done) / 0.7)
        adam.step(slopes, rate=rate, decay=chosen.decay, decayed=len(weights))
    first = weights[0] * scale
    return Perceptrons(
        weights=(first, weights[1], weights[2]), biases=(biases[0], biases[1], biases[2])
    )


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)), np.float32)


def _gradients(
    weights: list[Floats],
    biases: list[Floats],
    batch: Floats,
    targets: NDArray[np.float64],
    *,
    dropout: float,
    rng: np.random.Generator,
) -> list[Floats]:
    """Slopes of the smooth absolute error by weights, then biases; batch [M,B,D]."""
    inputs, before, masks = [batch], [], []
    for place in range(2):
        linear = inputs[-1] @ weights[place] + biases[place]
        mask = (rng.random(linear.shape, np.float32) >= dropout) / np.float32(1 - dropout)
        before.append(linear)
        masks.append(mask)
        inputs.append(linear * _sigmoid(linear) * mask)
    error = inputs[2] @ weights[2] + biases[2] - targets.astype(np.float32)
    slope = np.clip(error, -1, 1) / np.float32(batch.shape[1])
    by_weight: list[Floats] = []
    by_bias: list[Floats] = []
    for place in (2, 1, 0):
        by_weight.insert(0, inputs[place].transpose(0, 2, 1) @ slope)
        by_bias.insert(0, slope.sum(1, keepdims=True))
        if place:
            linear = before[place - 1]
            gate = _sigmoid(linear)
            back = slope @ weights[place].transpose(0, 2, 1)
            slope = back * masks[place - 1] * gate * (1 + linear * (1 - gate))
    return [*by_weight, *by_bias]


class _Adam:
    """AdamW over a list of arrays, changed in place."""

    def __init__(self, values: list[Floats]) -> None:
        self._values = values
        self._first = [np.zeros_like(value) for value in values]
        self._second = [np.zeros_like(value) for value in values]
        self._steps = 0

    def step(self, slopes: list[Floats], *, rate: float, decay: float, decayed: int) -> None:
        """One update; the first `decayed` arrays also shrink."""
        self._steps += 1
        for place, (value, slope) in enumerate(zip(self._values, slopes, strict=True)):
            first, second = self._first[place], self._second[place]
            first += 0.1 * (slope - first)
            second += 0.001 * (slope * slope - second)
            sure = first / np.float32(1 - 0.9**self._steps)
            wide = second / np.float32(1 - 0.999**self._steps)
            if place < decayed:
                value *= np.float32(1 - rate * decay)
            value -= np.float32(rate) * sure / (np.sqrt(wide) + np.float32(1e-8))

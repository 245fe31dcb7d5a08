"""Make a trained detector faster: remove its last block, and train the rest to compensate.

The last block at stride 32 is expensive (a dense convolution) and adds little. The network without
it learns to produce the same maps as the network with it, on composed scenes. No other teacher is
used, so scores keep their meaning, and values derived from them (shifts, threshold) stay valid.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tools.training.common import Budget, update_average
from tools.training.detection.compose import Composer
from tools.training.detection.network import ANCHORS, LiteDetector
from tools.training.detection.settings import Side

SIDES = (Side(256, 12, 0.5), Side(448, 4, 0.25), Side(640, 2, 0.25))
FLOOR = 7.0  # lower logits count as this
SEEN = 0.1  # minimum score for boxes and landmarks to count
POINTS_WEIGH = 3.0
AVERAGE = 0.998
WARMUP = 100  # steps


def shortened(model: LiteDetector) -> LiteDetector:
    """`model` without its last block at stride 32; its other weights stay unchanged."""
    shorter = copy.deepcopy(model)
    layers = list(shorter.stages[2])  # type: ignore[call-overload]
    shorter.stages[2] = nn.Sequential(*layers[:-1])
    first, second, last = shorter.config.blocks
    shorter.config = replace(shorter.config, blocks=(first, second, last - 1))
    return shorter


def unlikeness(model: LiteDetector, before: LiteDetector, images: Tensor) -> Tensor:
    """Difference ``[]`` of the outputs of `model` and `before` on ``[B,3,S,S]``.

    The sum of the differences in the heads' inputs, in the scores, and in boxes and landmarks of
    rows with a score.
    """
    with torch.no_grad():
        old = before.features(images)
        wanted = [head(level) for head, level in zip(before.heads, old, strict=True)]
    new = model.features(images)
    answers = [head(level) for head, level in zip(model.heads, new, strict=True)]
    total = images.new_zeros(())
    places, count = images.new_zeros(()), images.new_ones(())
    for mine, theirs in zip(new, old, strict=True):
        total = total + (mine - theirs).square().mean() / (theirs.var() + 1e-4)
    for mine, theirs in zip(answers, wanted, strict=True):
        said, meant = (each[:, :ANCHORS].clamp(-FLOOR, FLOOR) for each in (mine, theirs))
        score = meant.sigmoid()
        total = total + 10 * ((said - meant).square() * (0.02 + score)).mean()
        away = (mine[:, ANCHORS:] - theirs[:, ANCHORS:]).abs()
        boxes, points = (
            part.unflatten(1, (ANCHORS, -1)).mean(dim=2)
            for part in (away[:, : 4 * ANCHORS], away[:, 4 * ANCHORS :])
        )
        weight = score * (score > SEEN)
        places = places + ((boxes + POINTS_WEIGH * points) * weight).sum()
        count = count + weight.sum()
    return total + places / count


def scenes(composer: Composer, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield endless batches ``[B,3,S,S]``, -1 to 1, of composed scenes and mosaics."""
    shares = np.array([side.share for side in SIDES])
    while True:
        side = SIDES[int(rng.choice(len(SIDES), p=shares))]
        makes = [
            composer.mosaics.sample if rng.random() < 0.3 else composer.sample
            for _ in range(side.batch)
        ]
        images = np.stack([make(rng, side.pixels).image for make in makes])
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().sub(127.5).div(128)
        yield pixels.contiguous(memory_format=torch.channels_last)


def learn(
    model: LiteDetector,
    before: LiteDetector,
    batches: Iterator[Tensor],
    *,
    budget: Budget,
    rate: float,
) -> Iterator[tuple[int, float]]:
    """Train `model` to match `before`; yields each step's number and difference.

    Batch norms keep their statistics. At the end `model` has the running average's weights.
    """
    model.eval()
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    step = 0
    while (done := budget.done(step)) < 1:
        optimiser.param_groups[0]["lr"] = rate * max(0.01, 1 - done) * min(1, (step + 1) / WARMUP)
        loss = unlikeness(model, before, next(batches))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        step += 1
        update_average(average, model, min(AVERAGE, step / (step + 10)))
        yield step, loss.item()
    model.load_state_dict(average.state_dict())

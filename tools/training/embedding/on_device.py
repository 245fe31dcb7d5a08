"""Batches of training views made on the GPU; CPU cores could not supply them fast enough.

It applies the degradations of `views` and `mixing` (`views.Recipe`) to whole batches in torch. The
teacher runs on every face and mixture of a batch, so no mixture occurs twice.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tools.evaluation.views import CROP, VIEW, Recipe
from tools.training.embedding import jpeg
from tools.training.embedding.crops import MARGIN

SHRUNK = (0.22, 0.7)  # shares of the side
SIZES = 8  # number of sizes to which views of one batch are shrunk
BLURRED = (0.5, 2.0)  # standard deviation, pixels
KERNEL = 13  # pixels
QUALITY = (15, 70)
COVERED = (0.15, 0.45)  # shares of the side


class DeviceViews:
    """Batches of degraded views with the teacher's embeddings of the clean faces."""

    def __init__(
        self, crops: NDArray[np.uint8], *, teacher: nn.Module, recipe: Recipe, mixed: float
    ) -> None:
        """Copy crops [M,CROP,CROP,3] uint8 RGB to the device of `teacher`.

        teacher: [N,3,112,112] in -1..1 to one output [N,D]; mixed: the share of mixtures, 0-1.
        """
        self._device = next(teacher.buffers()).device
        self._crops = torch.from_numpy(crops).to(self._device).permute(0, 3, 1, 2)
        self._teacher, self._recipe, self._mixed = teacher.eval(), recipe, mixed

    @torch.no_grad()
    def make(self, count: int, *, side: int, seed: int) -> tuple[Tensor, Tensor]:
        """Views [count,3,side,side] float32 in -1..1, unit targets [count,D], by seed."""
        rng = torch.Generator(self._device).manual_seed(seed)
        mixed = round(self._mixed * count)
        faces = self._draw(count, rng)
        if mixed:
            faces[-mixed:] = mixtures(faces[-mixed:], self._draw(mixed, rng), rng)
        targets = self._ask(faces)
        filled = chosen(count, self._recipe.backdrop, rng)
        other = faces[torch.randperm(count, generator=rng, device=self._device)[: len(filled)]]
        faces[filled] = fill_backdrops(faces[filled], other, rng)
        views = degrade(warp(faces, side=side, recipe=self._recipe, rng=rng), self._recipe, rng)
        return views.sub_(127.5).div_(127.5), targets

    def _draw(self, count: int, rng: torch.Generator) -> Tensor:
        rows = torch.randint(len(self._crops), (count,), generator=rng, device=self._device)
        return self._crops[rows].float()

    def _ask(self, faces: Tensor) -> Tensor:
        """Return the teacher's embedding: sum of clean and mirrored view, at unit length."""
        middle = faces[:, :, MARGIN : MARGIN + VIEW, MARGIN : MARGIN + VIEW]
        views = middle.sub(127.5).div_(127.5)
        both = [functional.normalize(self._teacher(each)[0]) for each in (views, views.flip(3))]
        return functional.normalize(both[0] + both[1])


def chosen(count: int, chance: float, rng: torch.Generator) -> Tensor:
    """Draw the positions of a share `chance` in a batch of `count`."""
    return torch.randperm(count, generator=rng, device=rng.device)[: round(chance * count)]


def uniform(low: float, high: float, count: int, rng: torch.Generator) -> Tensor:
    """Draw [count,1,1,1] between low and high, for a batch of images."""
    return torch.rand(count, 1, 1, 1, generator=rng, device=rng.device) * (high - low) + low


def normal(deviation: float, count: int, rng: torch.Generator, *, channels: int = 1) -> Tensor:
    """Draw [count,channels,1,1] around 0, for a batch of images."""
    drawn = torch.randn(count, channels, 1, 1, generator=rng, device=rng.device)
    return drawn * deviation


def mixtures(first: Tensor, second: Tensor, rng: torch.Generator) -> Tensor:
    """Join faces [N,3,S,S] along soft edges of any direction (`mixing.mixture`)."""
    count, side = len(first), first.shape[-1]
    angle = uniform(0, 2 * math.pi, count, rng)
    softness = side * 2 ** uniform(-5, 0, count, rng)
    away = torch.arange(side, device=first.device) - (side - 1) / 2
    place = away * angle.cos() + away[:, None] * angle.sin() + normal(side / 12, count, rng)
    share = 0.5 + 0.5 * torch.tanh(2 * place / softness)
    return (first * share + second * (1 - share)).round_()


def fill_backdrops(faces: Tensor, others: Tensor, rng: torch.Generator) -> Tensor:
    """Fill exactly black pixels of `faces` [N,3,S,S] with a colour or a part of `others`."""
    count, side = len(faces), faces.shape[-1]
    outside = (faces == 0).all(1, keepdim=True)
    corner = torch.rand(count, 2, generator=rng, device=faces.device) - 0.5
    theta = torch.zeros(count, 2, 3, device=faces.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 0.5
    theta[:, :, 2] = corner
    grid = functional.affine_grid(theta, [count, 3, side, side], align_corners=False)
    filling = functional.grid_sample(others, grid, padding_mode="border", align_corners=False)
    colour = uniform(0, 255, 3 * count, rng).reshape(count, 3, 1, 1).round()
    plain = uniform(0, 1, count, rng) < 0.3
    return torch.where(outside, torch.where(plain, colour, filling), faces)


def warp(faces: Tensor, *, side: int, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """Jitter and mirror crops [N,3,CROP,CROP] into views [N,3,side,side] (`views.make_view`)."""
    count = len(faces)
    angle = normal(math.radians(recipe.rotation), count, rng).flatten()
    zoom = (1 + normal(recipe.scale, count, rng)).clamp(0.88, 1.12).flatten() * side / VIEW
    shift = normal(recipe.shift, count, rng, channels=2).clamp(-4, 4).reshape(count, 2)
    flip = torch.ones(count, device=faces.device)
    flip[chosen(count, recipe.flip, rng)] = -1
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    # from the view's pixels back to the crop's, both relative to the centre
    back = torch.stack(
        [torch.stack([cosine * flip, sine * flip], 1), torch.stack([-sine, cosine], 1)], 1
    )
    across = torch.arange(side, device=faces.device) - (side - 1) / 2
    pixels = torch.stack(torch.meshgrid(across, across, indexing="xy"), -1).reshape(1, -1, 2)
    places = (pixels - (shift * side / VIEW)[:, None]) @ back.transpose(1, 2)
    grid = (places / ((CROP - 1) / 2)).reshape(count, side, side, 2)
    return functional.grid_sample(faces, grid, padding_mode="zeros", align_corners=True)


def degrade(views: Tensor, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """Recolour, grey, shrink, blur, compress, cover some of views [N,3,S,S] of 0-255."""
    count = len(views)
    for chance, change in (
        (recipe.colour, recoloured),
        (recipe.grey, greyed),
        (recipe.shrink, shrunk),
        (recipe.blur, blurred),
        (recipe.jpeg, compressed),
        (recipe.cover, covered),
    ):
        some = chosen(count, chance, rng)
        if len(some):
            views[some] = change(views[some].round(), rng).clamp(0, 255)
    return views.round_()


def recoloured(views: Tensor, rng: torch.Generator) -> Tensor:
    """Change contrast, tint and brightness."""
    count = len(views)
    gain = 1 + normal(0.18, count, rng)
    tint = 1 + normal(0.05, count, rng, channels=3)
    mean = views.mean((1, 2, 3), keepdim=True)
    return (views - mean) * gain * tint + mean + normal(18, count, rng)


def greyed(views: Tensor, rng: torch.Generator) -> Tensor:
    """Without colour."""
    del rng
    luma = torch.tensor([0.299, 0.587, 0.114], device=views.device)
    return torch.einsum("nchw,c->nhw", views, luma)[:, None].expand_as(views)


def shrunk(views: Tensor, rng: torch.Generator) -> Tensor:
    """Reduce the resolution; at most `SIZES` sizes in a batch."""
    side = views.shape[-1]
    shares = torch.rand(SIZES, generator=rng, device=views.device).tolist()
    parts = []
    for part, share in zip(views.chunk(SIZES), shares, strict=False):
        small = max(12, int(side * (SHRUNK[0] + share * (SHRUNK[1] - SHRUNK[0]))))
        less = functional.interpolate(part, (small, small), mode="area")
        parts.append(functional.interpolate(less, (side, side), mode="bilinear"))
    return torch.cat(parts)


def blurred(views: Tensor, rng: torch.Generator) -> Tensor:
    """Out of focus."""
    count, side = len(views), views.shape[-1]
    width = uniform(*BLURRED, count, rng).reshape(count, 1) * side / VIEW
    away = torch.arange(KERNEL, device=views.device) - KERNEL // 2
    line = torch.exp(-(away**2) / (2 * width**2))
    kernel = (line / line.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = functional.pad(views, [KERNEL // 2] * 4, mode="reflect").reshape(1, count * 3, -1)
    flat = flat.reshape(1, count * 3, side + KERNEL - 1, side + KERNEL - 1)
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=count * 3)
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=count * 3)
    return flat.reshape(count, 3, side, side)


def compressed(views: Tensor, rng: torch.Generator) -> Tensor:
    """As JPEG leaves them."""
    return jpeg.compress(views, uniform(*QUALITY, len(views), rng).flatten().floor())


def covered(views: Tensor, rng: torch.Generator) -> Tensor:
    """Cover a random rectangle with one colour."""
    count, side = len(views), views.shape[-1]
    extent = uniform(*COVERED, 2 * count, rng).reshape(2, count, 1)
    start = uniform(0, 1, 2 * count, rng).reshape(2, count, 1) * (1 - extent)
    place = (torch.arange(side, device=views.device) + 0.5) / side
    inside = (place >= start) & (place < start + extent)
    colour = uniform(0, 255, 3 * count, rng).reshape(count, 3, 1, 1)
    return torch.where((inside[0, :, :, None] & inside[1, :, None, :])[:, None], colour, views)

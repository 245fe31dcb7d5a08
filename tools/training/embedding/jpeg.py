"""JPEG compression artefacts in torch: a whole batch at once, each picture at its own quality.

Baseline JPEG as libjpeg writes it at its defaults: YCbCr with colour at half the resolution, the
discrete cosine transform of blocks of 8 x 8, and the tables of the standard's annex K, scaled by
the quality as libjpeg scales them. Only the lossy steps are computed; nothing is encoded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 8

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


def compress(pictures: Tensor, quality: Tensor) -> Tensor:
    """Pictures [N,3,H,W] float32 RGB 0-255, H and W multiples of 16, at qualities [N] of 1-100."""
    matrix = torch.tensor(TO_YCC, device=pictures.device)
    planes = torch.einsum("nchw,dc->ndhw", pictures, matrix)
    light = _quantised(planes[:, :1] - 128, LUMINANCE, quality) + 128
    small = functional.avg_pool2d(planes[:, 1:], 2)
    colour = _quantised(small, CHROMINANCE, quality)
    colour = functional.interpolate(colour, scale_factor=2.0, mode="bilinear")
    whole = torch.cat([light, colour], 1)
    back = torch.linalg.inv(matrix)
    return torch.einsum("nchw,dc->ndhw", whole, back).round_().clamp_(0, 255)


def _quantised(planes: Tensor, table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Round the block coefficients of planes [N,C,H,W], which are centred at 0."""
    count, channels, height, width = planes.shape
    turn = _cosines(planes.device)
    blocks = planes.reshape(count, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = blocks.transpose(3, 4)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = torch.tensor(table, device=planes.device, dtype=torch.float32) * scale[:, None, None]
    steps = ((steps + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    kept = ((turn @ blocks @ turn.T) / steps).round_() * steps
    return (turn.T @ kept @ turn).transpose(3, 4).reshape(planes.shape)


def _cosines(device: torch.device) -> Tensor:
    """[8,8]: a block's column to its orthonormal cosine coefficients."""
    place = torch.arange(BLOCK, device=device)
    turn = torch.cos((2 * place + 1) * place[:, None] * math.pi / (2 * BLOCK)) / 2
    turn[0] /= math.sqrt(2)
    return turn

"""Augmentation of crops and landmarks, in batches."""

import torch
from torch import Tensor

from tools.training.detection.sample import MIRRORED


def varied(crops: Tensor, *points: Tensor) -> tuple[Tensor, ...]:
    """Mirror half of ``[B,3,S,S]`` with their ``[B,5,2]``; vary the light, make a tenth grey."""
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

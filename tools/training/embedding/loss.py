"""The loss of the embedding student."""

import torch
from torch import Tensor
from torch.nn import functional


def distillation_loss(
    student: Tensor, teacher: Tensor, *, structure: float
) -> tuple[Tensor, Tensor]:
    """Loss and mean cosine of raw student embeddings [N,D] against unit teacher ones [N,D]."""
    unit = functional.normalize(student)
    cosine = (unit * teacher).sum(1).mean()
    others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    gap = (unit @ unit.T - teacher @ teacher.T)[others]
    return 1 - cosine + structure * gap.square().mean(), cosine

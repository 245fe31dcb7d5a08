"""The detector's loss: quality focal scores, distance-IoU boxes, smooth landmarks.

Scores learn the overlap that their own box reaches (Li et al. 2020, Generalized Focal Loss),
boxes the distance-IoU (Zheng et al. 2020), landmarks a Huber loss in units of the face's size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BOX_WEIGHT = 1.0
POINT_WEIGHT = 12.0
POINT_BETA = 0.02  # of the face's size: quadratic below, linear above


@dataclass(frozen=True, slots=True)
class Losses:
    """Each part, weighted, averaged over the batch's positive rows."""

    score: Tensor
    box: Tensor
    point: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.score + self.box + self.point


def overlap(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and distance-IoU ``[P]`` of boxes given as distances ``[P,4]`` from shared centres."""
    width = torch.minimum(left[:, 2], right[:, 2]) + torch.minimum(left[:, 0], right[:, 0])
    height = torch.minimum(left[:, 3], right[:, 3]) + torch.minimum(left[:, 1], right[:, 1])
    shared = width.clamp(min=0) * height.clamp(min=0)

    def area(box: Tensor) -> Tensor:
        return (box[:, 0] + box[:, 2]).clamp(min=0) * (box[:, 1] + box[:, 3]).clamp(min=0)

    iou = shared / (area(left) + area(right) - shared).clamp(min=1e-6)
    around_w = torch.maximum(left[:, 2], right[:, 2]) + torch.maximum(left[:, 0], right[:, 0])
    around_h = torch.maximum(left[:, 3], right[:, 3]) + torch.maximum(left[:, 1], right[:, 1])
    shift_x = ((left[:, 2] - left[:, 0]) - (right[:, 2] - right[:, 0])) / 2
    shift_y = ((left[:, 3] - left[:, 1]) - (right[:, 3] - right[:, 1])) / 2
    diagonal = (around_w**2 + around_h**2).clamp(min=1e-6)
    return iou, iou - (shift_x**2 + shift_y**2) / diagonal


def quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Cross entropy against `quality` (0-1), times the squared distance to it; elementwise."""
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, quality, reduction="none"
    )
    return entropy * (logits.detach().sigmoid() - quality).square()


def detection_loss(
    outputs: tuple[Tensor, Tensor, Tensor],
    *,
    weight: Tensor,
    rows: Tensor,
    boxes: Tensor,
    points: Tensor,
) -> Losses:
    """Loss of a batch.

    outputs: logits ``[B,M]``, distances ``[B,M,4]``, offsets ``[B,M,5,2]``; weight ``[B,M]``;
    rows ``[P]`` int64 into the flattened ``B * M``; boxes ``[P,4]``, points ``[P,5,2]``.
    """
    logits, distances, offsets = outputs
    count = max(len(rows), 1)
    iou, diou = overlap(distances.reshape(-1, 4)[rows], boxes)
    quality = torch.zeros_like(logits).reshape(-1)
    quality[rows] = iou.detach().clamp(0, 1)
    score = (quality_focal(logits.reshape(-1), quality) * weight.reshape(-1)).sum() / count
    size = ((boxes[:, 0] + boxes[:, 2]) * (boxes[:, 1] + boxes[:, 3])).sqrt()
    error = (offsets.reshape(-1, 5, 2)[rows] - points).abs() / size[:, None, None]
    huber = torch.where(error < POINT_BETA, error**2 / (2 * POINT_BETA), error - POINT_BETA / 2)
    return Losses(
        score=score,
        box=BOX_WEIGHT * (1 - diou).sum() / count,
        point=POINT_WEIGHT * huber.mean(dim=(1, 2)).sum() / count,
    )

"""The detector's loss: quality focal scores, distance-IoU boxes, smooth landmarks.

Scores learn the teacher's score or, without one, the overlap of their own box (Li et al. 2020,
Generalized Focal Loss); boxes learn with the distance-IoU (Zheng et al. 2020); landmarks with a
Huber loss in units of the distance between the eyes, the unit of their evaluation, or in units of
the face's size if that distance is short, as in profiles.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BOX_WEIGHT = 1.0
POINT_WEIGHT = 20.0
POINT_BETA = 0.02  # of that unit: quadratic below, linear above
EYES_APART = 0.4  # times the face's size, in a face seen from the front
NARROWEST = 0.35  # times that: a profile's eyes coincide and are no unit
PLACED = 0.2  # rows with a lower teacher score do not learn the face's position


@dataclass(frozen=True, slots=True)
class Losses:
    """The weighted losses, averaged over the batch's rows with a face."""

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
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
) -> Losses:
    """Loss of a batch.

    outputs: logits ``[B,M]``, distances ``[B,M,4]``, offsets ``[B,M,5,2]``; weight ``[B,M]``;
    rows ``[P]`` int64 into the flattened ``B * M``; scores ``[P]``, the teacher's or NaN; boxes
    ``[P,4]``, points ``[P,5,2]``.
    """
    logits, distances, offsets = outputs
    iou, diou = overlap(distances.reshape(-1, 4)[rows], boxes)
    own = scores.isnan()
    quality = torch.zeros_like(logits).reshape(-1)
    quality[rows] = torch.where(own, iou.detach().clamp(0, 1), scores)
    share = torch.where(own, 1.0, scores * (scores >= PLACED))
    count = share.sum().clamp(min=1.0)
    score = (quality_focal(logits.reshape(-1), quality) * weight.reshape(-1)).sum() / count
    area = (boxes[:, 0] + boxes[:, 2]) * (boxes[:, 1] + boxes[:, 3])
    size = area.clamp(min=1.0).sqrt()  # in strides; rows of low confidence may have an empty box
    apart = (points[:, 1] - points[:, 0]).norm(dim=1) / EYES_APART
    unit = torch.minimum(torch.maximum(apart, NARROWEST * size), size)
    error = (offsets.reshape(-1, 5, 2)[rows] - points).abs() / unit[:, None, None]
    huber = torch.where(error < POINT_BETA, error**2 / (2 * POINT_BETA), error - POINT_BETA / 2)
    return Losses(
        score=score,
        box=BOX_WEIGHT * ((1 - diou) * share).sum() / count,
        point=POINT_WEIGHT * (huber.mean(dim=(1, 2)) * share).sum() / count,
    )

"""The loss of the landmark refiner."""

from torch import Tensor

NARROWEST = 0.15  # halves of a crop: the eyes of profiles coincide: their distance is no unit


def landmark_loss(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance ``[]`` of landmarks ``[B,10]`` in distances between the eyes."""
    mine, theirs = points.view(-1, 5, 2), truth.view(-1, 5, 2)
    eyes = (theirs[:, 1] - theirs[:, 0]).norm(dim=1).clamp(min=NARROWEST)
    away = ((mine - theirs).square().sum(dim=2) + 1e-5).sqrt()
    return (away.mean(dim=1) / eyes).mean()

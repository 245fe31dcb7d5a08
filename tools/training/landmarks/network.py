"""The refiner: a small network with a face's crop and the detector's landmarks as inputs."""

import torch
from torch import Tensor, nn

from tools.training.detection.network import Block, conv
from tools.training.detection.sample import MIRRORED

WIDTHS = (16, 32, 64, 96)
"""Channels at crops of 20, 10, 5 and 3 pixels to a side."""
LOOKS, WEIGHS = 96, 64
"""Widths of the layers that derive landmarks from the crop, and that weigh both inputs."""
TRUST = 0.2
"""Initial weight of the crop's landmarks against the detector's."""
USUAL = (-0.33, -0.27, 0.33, -0.27, 0.0, 0.05, -0.27, 0.4, 0.27, 0.4)
"""Mean positions of landmarks in a face's frame."""


class Refiner(nn.Module):
    """Crops ``[K,3,40,40]``, -1 to 1, and landmarks ``[K,10]`` to better landmarks ``[K,10]``.

    Landmarks are in the face's frame. The landmarks from the crop alone are a second output, for
    the training's loss: the detector's landmarks are so accurate that otherwise the network would
    hardly learn to use the crop.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third, last = WIDTHS
        self.body = nn.Sequential(
            conv(3, first, 3, stride=2),
            conv(first, second, 3, stride=2),
            Block(second, dense=True),
            conv(second, third, 3, stride=2),
            Block(third, dense=True),
            Block(third, dense=True),
            conv(third, last, 3, stride=2),
        )
        self.look = nn.Linear(9 * last, LOOKS)
        self.places = nn.Linear(LOOKS, 10)
        self.weigh = nn.Linear(LOOKS + 20, WEIGHS)
        self.out = nn.Linear(WEIGHS, 10)
        self.trust = nn.Parameter(torch.full((10,), TRUST))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.places.weight.mul_(0.1)
            self.places.bias.copy_(torch.tensor(USUAL))

    def forward(self, faces: Tensor, points: Tensor) -> Tensor:
        """Correct `points` with the crops `faces`."""
        return self.both(faces, points)[0]

    def both(self, faces: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the corrected landmarks and those from the crop alone: ``[K,10]`` each."""
        seen = self.look(self.body(faces).flatten(1)).relu()
        shown: Tensor = self.places(seen)
        apart = shown - points
        weighed = self.weigh(torch.cat([seen, points, apart], dim=1)).relu()
        return points + self.trust * apart + self.out(weighed), shown


class BothWays(nn.Module):
    """A trained refiner on each face and its mirror image: the mean is more accurate."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner
        self.register_buffer("across", torch.tensor([-1.0, 1.0]))

    def forward(self, faces: Tensor, points: Tensor) -> Tensor:
        """As `Refiner.forward`."""
        both = self.refiner(
            torch.cat([faces, faces.flip(3)]), torch.cat([points, self._mirrored(points)])
        )
        plain, turned = both.chunk(2)
        mean: Tensor = (plain + self._mirrored(turned)) / 2
        return mean

    def _mirrored(self, points: Tensor) -> Tensor:
        return (points.view(-1, 5, 2)[:, list(MIRRORED)] * self.across).flatten(1)

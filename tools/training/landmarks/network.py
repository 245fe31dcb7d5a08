"""The refiner: a small network on a face's crop and the landmarks that the detector offers."""

import torch
from torch import Tensor, nn

from tools.training.detection.network import Block, conv
from tools.training.detection.sample import MIRRORED

WIDTHS = (16, 32, 64, 96)
"""Channels at crops of 20, 10, 5 and 3 pixels to a side."""
LOOKS, WEIGHS = 96, 64
"""Widths of the layers that place landmarks by the crop, and that weigh them with those offered."""
TRUST = 0.2
"""How far at first the crop is trusted where it contradicts the detector."""
USUAL = (-0.33, -0.27, 0.33, -0.27, 0.0, 0.05, -0.27, 0.4, 0.27, 0.4)
"""Where landmarks usually lie in a face's frame."""


class Refiner(nn.Module):
    """Crops ``[K,3,40,40]``, -1 to 1, and landmarks ``[K,10]`` to better landmarks ``[K,10]``.

    Landmarks are in the face's frame. Those that the crop alone shows are an output, too, so that
    training can ask for them: what is offered is so near the truth that a network which need not
    look hardly learns to.
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
        """Correct `points` by what `faces` show."""
        return self.both(faces, points)[0]

    def both(self, faces: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The corrected landmarks, and where the crop alone shows them: ``[K,10]`` each."""
        seen = self.look(self.body(faces).flatten(1)).relu()
        shown: Tensor = self.places(seen)
        apart = shown - points
        weighed = self.weigh(torch.cat([seen, points, apart], dim=1)).relu()
        return points + self.trust * apart + self.out(weighed), shown


class BothWays(nn.Module):
    """A trained refiner asked about each face and its mirror image: the mean errs less."""

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

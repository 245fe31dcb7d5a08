"""The lite detector: a small one-stage network with SCRFD's heads.

A wide stem goes to stride 4 in one convolution, so that no layer runs at full resolution (where a
CPU is limited by memory, not by arithmetic). Then follow residual stages at strides 8, 16 and
32, a top-down and bottom-up path, and one head per stride: score logits, distances to the four
sides and five landmark offsets, for two anchors per cell.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

ANCHORS = 2
LANDMARKS = 5


@dataclass(frozen=True, slots=True)
class NetConfig:
    """Widths and depths. stem: channels at stride 4; widths, blocks: at strides 8, 16, 32."""

    stem: int = 32
    stem_kernel: int = 5
    widths: tuple[int, int, int] = (64, 112, 144)
    blocks: tuple[int, int, int] = (3, 4, 2)
    neck: int = 80
    dense: tuple[bool, bool, bool] = (False, False, True)
    kernel: int = 3


def conv(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution, batch norm and, unless `act` is false, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if act:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Residual block: one dense 3x3, or depthwise 3x3 and pointwise."""

    def __init__(self, width: int, *, dense: bool, kernel: int = 3) -> None:
        super().__init__()
        if dense:
            self.body = conv(width, width, 3)
        else:
            self.body = nn.Sequential(
                conv(width, width, kernel, groups=width, act=False), conv(width, width, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,h,w]`` to the same shape."""
        return x + self.body(x)


class Head(nn.Module):
    """Two depthwise-separable layers, then one 1x1 for scores, boxes and landmarks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            conv(width, width, 3, groups=width, act=False),
            conv(width, width, 1),
            conv(width, width, 3, groups=width, act=False),
            conv(width, width, 1),
        )
        self.out = nn.Conv2d(width, ANCHORS * (1 + 4 + 2 * LANDMARKS), 1)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[:ANCHORS] = -4.6  # its sigmoid is 1 %
            self.out.bias[ANCHORS : 5 * ANCHORS] = 1.5

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,h,w]`` to ``[B, 2 * 15, h, w]``: 2 scores, 8 distances, 20 offsets."""
        out: Tensor = self.out(self.tower(x))
        return out


class LiteDetector(nn.Module):
    """``[B,3,H,W]`` float32 in -1..1 to three raw maps, strides 8, 16 and 32."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        kernel = config.stem_kernel
        self.stem = nn.Sequential(
            nn.Conv2d(3, config.stem, kernel, 4, padding=(kernel - 3) // 2, bias=False),
            nn.BatchNorm2d(config.stem),
            nn.ReLU(inplace=True),
        )
        stages, before = [], config.stem
        for width, blocks, dense in zip(config.widths, config.blocks, config.dense, strict=True):
            layers = [conv(before, width, 3, stride=2)]
            layers += [Block(width, dense=dense, kernel=config.kernel) for _ in range(blocks)]
            stages.append(nn.Sequential(*layers))
            before = width
        self.stages = nn.ModuleList(stages)
        neck = config.neck
        self.lateral = nn.ModuleList(conv(w, neck, 1) for w in config.widths)
        self.down = nn.ModuleList(
            nn.Sequential(
                conv(neck, neck, 3, stride=2, groups=neck, act=False), conv(neck, neck, 1)
            )
            for _ in range(2)
        )
        self.heads = nn.ModuleList(Head(neck) for _ in config.widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Raw maps ``[B,30,H/s,W/s]`` for s = 8, 16, 32."""
        return [head(level) for head, level in zip(self.heads, self.features(x), strict=True)]

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the heads: ``[B,neck,H/s,W/s]`` for s = 8, 16, 32."""
        features = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        p8, p16, p32 = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
        p16 = p16 + nn.functional.interpolate(p32, scale_factor=2.0, mode="nearest")
        p8 = p8 + nn.functional.interpolate(p16, scale_factor=2.0, mode="nearest")
        p16 = p16 + self.down[0](p8)
        p32 = p32 + self.down[1](p16)
        return p8, p16, p32


def flatten(maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Raw maps to logits ``[B,M]``, distances ``[B,M,4]``, offsets ``[B,M,5,2]``.

    Rows follow SCRFD's order: level, row, column, anchor; units of the level's stride.
    """
    logits, boxes, points = [], [], []
    for raw in maps:
        batch, _, height, width = raw.shape
        cells = raw.permute(0, 2, 3, 1).reshape(batch, height * width, -1)
        a = ANCHORS
        logits.append(cells[..., :a].reshape(batch, -1))
        boxes.append(cells[..., a : 5 * a].reshape(batch, -1, 4))
        points.append(cells[..., 5 * a :].reshape(batch, -1, LANDMARKS, 2))
    return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(points, 1)

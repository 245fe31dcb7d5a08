"""Export a trained detector as raw ONNX in SCRFD's layout, so that the import accepts it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tools.importing.graph.average_landmarks import AVERAGED, PROPERTY
from tools.training.common import store_as_fp16
from tools.training.detection.network import ANCHORS, LANDMARKS, Head, LiteDetector

INPUT = "input.1"
OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32))
OPSET = 17
WIDTHS = (1, 4, 2 * LANDMARKS)

Shifts = tuple[float, float, float, float, float, float]
"""One shift per anchor size, from 16 to 512 pixels; the finest cause most false alarms."""


class SplitHead(nn.Module):
    """A head with separate feature maps for scores, boxes and landmarks, as in SCRFD."""

    def __init__(self, head: Head, *, shifts: tuple[float, ...]) -> None:
        super().__init__()
        self.tower = head.tower
        sizes = [ANCHORS, 4 * ANCHORS, 2 * LANDMARKS * ANCHORS]
        weights, biases = head.out.weight.split(sizes), head.out.bias.split(sizes)
        self.parts = nn.ModuleList()
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            part = nn.Conv2d(weight.shape[1], len(weight), 1)
            part.weight = nn.Parameter(weight.detach().clone())
            moved = torch.tensor(shifts) if index == 0 else 0.0
            part.bias = nn.Parameter(bias.detach() + moved)
            self.parts.append(part)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``[B,C,h,w]`` to score logits, distances and offsets, ``[B,2K,h,w]`` each."""
        x = self.tower(x)
        return [part(x) for part in self.parts]


class RawLayout(nn.Module):
    """``[1,3,H,W]`` to nine tensors: scores ``[n,1]`` 0-1, boxes ``[n,4]``, landmarks ``[n,10]``.

    `shifts` are added to the scores' logits, so that the default threshold of 0.5 matches the
    measured one.
    """

    def __init__(self, model: LiteDetector, *, shifts: Shifts) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ModuleList(
            SplitHead(head, shifts=shifts[ANCHORS * level : ANCHORS * (level + 1)])
            for level, head in enumerate(model.heads)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Strides 8, 16, 32 of scores, then of boxes, then of landmarks."""
        levels = [
            [
                part.permute(0, 2, 3, 1).reshape(-1, width)
                for part, width in zip(head(level), WIDTHS, strict=True)
            ]
            for head, level in zip(self.heads, self.model.features(x), strict=True)
        ]
        scores, boxes, points = zip(*levels, strict=True)
        return (*(score.sigmoid() for score in scores), *boxes, *points)


def export(model: LiteDetector, path: Path, *, shifts: Shifts = (0.0,) * 6) -> None:
    """Write `model` to `path`, with 16-bit weights and averaged landmarks enabled.

    Height and width stay free (multiples of 32).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {INPUT: {2: "height", 3: "width"}} | {name: {0: "rows"} for name in OUTPUTS}
    torch.onnx.export(
        RawLayout(model, shifts=shifts).eval(),
        (torch.zeros(1, 3, 320, 320),),
        str(path),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )
    store_as_fp16(path, properties={PROPERTY: AVERAGED})

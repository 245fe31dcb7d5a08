"""A trained detector as raw ONNX in SCRFD's layout, so that it is imported like SCRFD itself."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tools.training.detection_net import ANCHORS, LANDMARKS, LiteDetector

INPUT = "input.1"
OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32))
OPSET = 17


class RawLayout(nn.Module):
    """``[1,3,H,W]`` to nine tensors: scores ``[n,1]`` 0-1, boxes ``[n,4]``, landmarks ``[n,10]``.

    `shift` is added to every score's logit, so that the default threshold of 0.5 lies where the
    measurement wants it.
    """

    def __init__(self, model: LiteDetector, *, shift: float) -> None:
        super().__init__()
        self.model = model
        self.shift = shift

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Strides 8, 16, 32 of scores, then of boxes, then of landmarks."""
        scores, boxes, points = [], [], []
        for raw in self.model(x):
            cells = raw.permute(0, 2, 3, 1)
            scores.append((cells[..., :ANCHORS] + self.shift).sigmoid().reshape(-1, 1))
            boxes.append(cells[..., ANCHORS : 5 * ANCHORS].reshape(-1, 4))
            points.append(cells[..., 5 * ANCHORS :].reshape(-1, 2 * LANDMARKS))
        return (*scores, *boxes, *points)


def export(model: LiteDetector, path: Path, *, shift: float = 0.0) -> None:
    """Write `model` to `path`; height and width stay free (multiples of 32)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {INPUT: {2: "height", 3: "width"}} | {name: {0: "rows"} for name in OUTPUTS}
    torch.onnx.export(
        RawLayout(model, shift=shift).eval(),
        (torch.zeros(1, 3, 320, 320),),
        str(path),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )

"""A trained detector taken up by a wider or deeper one, which at first answers the same.

Its channels become the first channels of each layer. What is new reads all that lies before it, and
nothing old reads what is new, until training wants it so (after Chen et al. 2016, Net2Net).
"""

import torch
from torch import nn

from tools.training.detection_net import Block, LiteDetector

BARELY = 0.01  # at nought itself a rectifier passes no gradient, and a new block would stay idle


def grow(old: LiteDetector, new: LiteDetector) -> None:
    """Fill `new` from `old`. Raises ValueError where `new` is narrower or shallower."""
    known = dict(old.named_modules())
    with torch.no_grad():
        for name, module in new.named_modules():
            if isinstance(module, nn.Conv2d) and name in known:
                _grow_conv(known.pop(name), module, name)
            elif isinstance(module, nn.BatchNorm2d) and name in known:
                _grow_norm(known.pop(name), module, name)
            elif isinstance(module, Block) and name not in known:
                norm = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)][-1]
                norm.weight.zero_()
                norm.bias.fill_(BARELY)
    left = [name for name, module in known.items() if isinstance(module, nn.Conv2d)]
    if left:
        raise ValueError(f"the network to fill has no layer {left[0]}")


def _grow_conv(old: nn.Module, new: nn.Conv2d, name: str) -> None:
    assert isinstance(old, nn.Conv2d)
    outputs, inputs = old.weight.shape[:2]
    if new.weight.shape[0] < outputs or new.weight.shape[1] < inputs:
        raise ValueError(f"layer {name} of the network to fill is narrower")
    # rows as long as the old ones: rates are told relative to the length of the whole
    new.weight.mul_(old.weight.norm() / outputs**0.5 / (new.weight.norm() / len(new.weight) ** 0.5))
    new.weight[:outputs, inputs:] = 0
    new.weight[:outputs, :inputs] = old.weight
    if new.bias is not None and old.bias is not None:
        new.bias[:outputs] = old.bias


def _grow_norm(old: nn.Module, new: nn.BatchNorm2d, name: str) -> None:
    mine, theirs = new.state_dict(), old.state_dict()
    for key, value in theirs.items():
        if value.ndim:
            if len(mine[key]) < len(value):
                raise ValueError(f"norm {name} of the network to fill is narrower")
            mine[key][: len(value)] = value

"""Initialise a wider or deeper network from a trained one, with the same outputs at first.

The old channels become the first channels of each layer. New channels read all previous channels,
but old channels get zero weights for new ones, until training changes that (Net2Net, Chen et al.
2016).
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

BARELY = 0.01  # at exactly 0 a rectifier passes no gradient, and a new block would stay idle


def grow(
    old: Network,
    new: Network,
    *,
    block: type[nn.Module],
    role: Callable[[Network, str], str] = lambda _, name: name,
) -> None:
    """Fill `new` from `old`; a residual `block` that `old` lacks starts near the identity.

    `role` maps a module's name to its role, where the name depends on the network's depth. Raises
    ValueError if `new` is narrower or shallower.
    """
    known = {role(old, name): module for name, module in old.named_modules()}
    with torch.no_grad():
        for name, module in ((role(new, name), module) for name, module in new.named_modules()):
            if mixes(module) and name in known:
                _grow_layer(known.pop(name), module, name)
            elif isinstance(module, nn.BatchNorm2d) and name in known:
                _grow_norm(known.pop(name), module, name)
            elif isinstance(module, block) and name not in known:
                norm = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)][-1]
                norm.weight.zero_()
                norm.bias.fill_(BARELY)
    left = [name for name, module in known.items() if mixes(module)]
    if left:
        raise ValueError(f"the network to fill has no layer {left[0]}")


def mixes(module: nn.Module) -> bool:
    """Whether the module has a weight that mixes channels: ``[O,I,...]``."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.ndim > 1


def _grow_layer(old: nn.Module, new: nn.Module, name: str) -> None:
    outputs, inputs = old.weight.shape[:2]
    if new.weight.shape[0] < outputs or new.weight.shape[1] < inputs:
        raise ValueError(f"layer {name} of the network to fill is narrower")
    # new rows get the norm of old ones: learning rates are relative to the norm of the whole
    new.weight.mul_(old.weight.norm() / outputs**0.5 / (new.weight.norm() / len(new.weight) ** 0.5))
    new.weight[:outputs, inputs:] = 0
    new.weight[:outputs, :inputs] = old.weight
    if getattr(new, "bias", None) is not None and getattr(old, "bias", None) is not None:
        new.bias[:outputs] = old.bias


def _grow_norm(old: nn.Module, new: nn.BatchNorm2d, name: str) -> None:
    mine, theirs = new.state_dict(), old.state_dict()
    for key, value in theirs.items():
        if value.ndim:
            if len(mine[key]) < len(value):
                raise ValueError(f"norm {name} of the network to fill is narrower")
            mine[key][: len(value)] = value

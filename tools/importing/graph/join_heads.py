"""Join convolutions that read the same map into one."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.importing.graph.operators import GraphBuilder

_CHANNELS: Final = 1
"""Channel axis of a map [N,C,H,W]."""


def join_convolutions(builder: GraphBuilder) -> None:
    """Replace convolutions of one map that differ only in their weights by one and a split.

    CPUs compute channels in blocks of 8 or 16. A detector's heads have 2, 8 and 20 channels, each
    in blocks of its own; joined, SCRFD's heads compute 32 channels instead of 64, which saves a
    seventh of the whole network. The results stay the same. 1x1 convolutions are not joined: they
    would gain little.
    """
    nodes = list(builder.graph.node)
    tensors = {tensor.name: tensor for tensor in builder.graph.initializer}
    alike: defaultdict[Any, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        if _is_wide(node, tensors):
            alike[_likeness(node)].append(node)
    first = {id(group[0]): group for group in alike.values() if len(group) > 1}
    gone = {id(node) for group in first.values() for node in group}
    del builder.graph.node[:]
    for node in nodes:
        if id(node) in first:
            _join(builder, first[id(node)], tensors)
        elif id(node) not in gone:
            builder.graph.node.append(node)


def _is_wide(node: onnx.NodeProto, tensors: dict[str, TensorProto]) -> bool:
    if node.op_type != "Conv" or any(name not in tensors for name in node.input[1:]):
        return False
    grouped = any(entry.name == "group" and entry.i != 1 for entry in node.attribute)
    return not grouped and max(tensors[node.input[1]].dims[2:], default=1) > 1


def _likeness(node: onnx.NodeProto) -> tuple[Any, ...]:
    settings = sorted(
        (entry.name, str(helper.get_attribute_value(entry))) for entry in node.attribute
    )
    return node.input[0], len(node.input), *settings


def _join(
    builder: GraphBuilder, group: Sequence[onnx.NodeProto], tensors: dict[str, TensorProto]
) -> None:
    stacked = [
        builder.constant(np.concatenate(arrays), arrays[0].dtype)
        for arrays in zip(
            *([numpy_helper.to_array(tensors[name]) for name in node.input[1:]] for node in group),
            strict=True,
        )
    ]
    settings = {entry.name: helper.get_attribute_value(entry) for entry in group[0].attribute}
    # a name without our prefix: it is a layer of the network itself
    name = f"{group[0].output[0]}_joined"
    joined = builder.op("Conv", group[0].input[0], *stacked, attributes=settings, output=name)
    sizes = [tensors[node.input[1]].dims[0] for node in group]
    builder.split(joined, sizes, axis=_CHANNELS, outputs=[node.output[0] for node in group])

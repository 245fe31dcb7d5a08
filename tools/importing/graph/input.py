"""The uint8 NHWC input of an image network, normalised in the graph."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.importing.graph.operators import GraphBuilder

_CHANNELS: Final = 3


def take_pixels(
    builder: GraphBuilder, source: str, *, mean: float, std: float, target: str
) -> None:
    """Make a network with input floats [N,3,H,W] accept UINT8 pixels [N,H,W,3].

    The network sees (source - mean) / std. If it begins with a plain convolution, that convolution
    reads the interleaved pixels directly: on them as one plane [N,1,H,3W], a kernel of 3 x k x k
    becomes one of 1 x k x 3k, and the division moves into its weights. This saves two passes over
    the pixels. The subtraction stays, since zero padding of the convolution must mean `mean`.

    Args:
        builder: graph builder of the network.
        source: name of the new input, which `finish` declares.
        mean: subtracted from each value 0-255.
        std: divisor after that.
        target: name of the network's own input.
    """
    with builder.before() as old:
        convolution = _plain_convolution(builder, old, target)
        if convolution is None:
            planes = builder.op("Transpose", source, attributes={"perm": [0, 3, 1, 2]})
            floats = builder.op("Cast", planes, attributes={"to": int(TensorProto.FLOAT)})
            shifted = builder.op("Sub", floats, builder.constant(mean, np.float32))
            builder.op("Div", shifted, builder.constant(std, np.float32), output=target)
            return
        rows = builder.insert_axis(builder.reshape(source, 0, 0, -1), 1)
        floats = builder.op("Cast", rows, attributes={"to": int(TensorProto.FLOAT)})
        plane = builder.op("Sub", floats, builder.constant(mean, np.float32))
        _read_interleaved(builder, convolution, plane, std)


def _plain_convolution(
    builder: GraphBuilder, nodes: Sequence[onnx.NodeProto], target: str
) -> onnx.NodeProto | None:
    readers = [node for node in nodes if target in node.input]
    if len(readers) != 1 or readers[0].op_type != "Conv":
        return None
    settings = _settings(readers[0])
    plain = (
        readers[0].input[1] in {tensor.name for tensor in builder.graph.initializer}
        and "auto_pad" not in settings
        and settings.get("group", 1) == 1
        and set(settings.get("dilations", [1])) == {1}
    )
    return readers[0] if plain else None


def _read_interleaved(
    builder: GraphBuilder, convolution: onnx.NodeProto, plane: str, std: float
) -> None:
    tensors = {tensor.name: tensor for tensor in builder.graph.initializer}
    weights = numpy_helper.to_array(tensors[convolution.input[1]])
    filters, _, height, width = weights.shape
    wide = weights.transpose(0, 2, 3, 1).reshape(filters, 1, height, width * _CHANNELS)
    settings = _settings(convolution)
    down, right = settings.get("strides", [1, 1])
    top, left, bottom, end = settings.get("pads", [0, 0, 0, 0])
    changed = {
        "kernel_shape": [height, width * _CHANNELS],
        "strides": [down, right * _CHANNELS],
        "pads": [top, left * _CHANNELS, bottom, end * _CHANNELS],
    }
    # new weights; other nodes may read the old ones, and `finish` drops unused ones
    convolution.input[0] = plane
    convolution.input[1] = builder.constant(wide.astype(np.float64) / std, weights.dtype)
    del convolution.attribute[:]
    convolution.attribute.extend(helper.make_attribute(*entry) for entry in changed.items())


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}

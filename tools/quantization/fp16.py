"""A network in 16-bit floats, for GPUs; inputs and outputs stay as they are."""

from typing import Final

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from tools.quantization.graphs import load, surgery

_OPSET: Final = 13


def halve(graph: bytes) -> onnx.ModelProto:
    """Convert a stage's network; what the importer put around it stays in 32 bits.

    Box decoding, suppression, the confidence and the norm would lose pixels and digits in 16 bits
    and take no time.
    """
    model = load(graph, opset=_OPSET)
    found = convert_float_to_float16(model, keep_io_types=True, node_block_list=surgery(model))
    if not isinstance(found, onnx.ModelProto):
        message = "the converter gave no graph"
        raise TypeError(message)
    _drop_repeated(found)
    wrapped = OnnxModel(found)
    # what stays in 32 bits must not go through 16 between two operators
    wrapped.remove_cascaded_cast_nodes()
    wrapped.topological_sort()
    wrapped.prune_graph()
    return found


def _drop_repeated(model: onnx.ModelProto) -> None:
    # the converter adds the same cast once for each operator that stays in 32 bits and reads it
    unique = {tuple(node.output): node for node in model.graph.node}
    nodes = list(unique.values())
    del model.graph.node[:]
    model.graph.node.extend(nodes)

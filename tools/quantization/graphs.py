"""What both lighter forms do with a finished stage graph."""

from collections.abc import Iterator, Mapping
from typing import Final

import onnx
from onnx import numpy_helper, version_converter

from tools.importing.graph import fp16_storage
from tools.importing.graph.operators import PREFIX
from tools.importing.network import MAX_IR_VERSION
from triton_python_backend.contract import ID_OUTPUT, format_id

LAYER_KINDS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with weights, in which nearly all of a network's time goes."""
PRECISION_PROPERTY: Final = "aurum.precision"
"""Property of a lighter graph: `int8` or `fp16`."""
_STANDARD: Final = ("", "ai.onnx")


def load(graph: bytes, *, opset: int) -> onnx.ModelProto:
    """Load a stage's graph with every operator named and an opset of at least `opset`."""
    model = onnx.load_from_string(graph)
    fp16_storage.unpack(model)
    version = next(e.version for e in model.opset_import if e.domain in _STANDARD)
    if version < opset:
        model = version_converter.convert_version(model, opset)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"operator_{index}"
    _leave_out_empty(model)
    return model


def surgery(model: onnx.ModelProto) -> list[str]:
    """Name the operators that the importer put around the network: pixels, decoding, norm, ids."""
    return [node.name for node in model.graph.node if node.name.startswith(PREFIX)]


def layers(model: onnx.ModelProto) -> list[str]:
    """Name the network's own layers with weights, in the order in which they run."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type in LAYER_KINDS and not node.name.startswith(PREFIX)
    ]


def first_and_last(model: onnx.ModelProto) -> list[str]:
    """Name the layers that no other layer precedes or follows.

    They see pixels and give the answer, and are the ones that bear rounding worst (Krishnamoorthi,
    Quantizing deep convolutional networks for efficient inference, 2018).
    """
    names = layers(model)
    producers = {output: node for node in model.graph.node for output in node.output}
    by_name = {node.name: node for node in model.graph.node}
    before = {name: _upstream(by_name[name], producers) & set(names) for name in names}
    followed = set().union(*before.values()) if before else set()
    return [name for name in names if not before[name] or name not in followed]


def seal(
    model: onnx.ModelProto,
    stage: str,
    identity: int,
    *,
    precision: str,
    metadata: Mapping[str, str],
) -> bytes:
    """Give a lighter graph its id, keep what the float one said of itself, and write it.

    Raises:
        ValueError: if the graph has no constant id, so is no stage's.
    """
    _set_id(model, stage, identity)
    del model.metadata_props[:]
    said = {**metadata, "aurum.id": format_id(identity), PRECISION_PROPERTY: precision}
    onnx.helper.set_model_props(model, said)
    used = {node.domain for node in model.graph.node}
    kept = [e for e in model.opset_import if e.domain in _STANDARD or e.domain in used]
    standard = [onnx.helper.make_opsetid(e.domain, e.version) for e in kept]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """Read what a graph says of itself."""
    return {entry.key: entry.value for entry in model.metadata_props}


def _leave_out_empty(model: onnx.ModelProto) -> None:
    # a Resize by sizes may carry empty scales, which a converter would take for given ones
    empty = {tensor.name for tensor in model.graph.initializer if 0 in tensor.dims}
    for node in model.graph.node:
        if node.op_type == "Resize":
            for place, name in enumerate(node.input):
                node.input[place] = "" if name in empty else name


def _set_id(model: onnx.ModelProto, stage: str, identity: int) -> None:
    output = ID_OUTPUT[stage]
    repeated = [node for node in model.graph.node if output in node.output]
    names = {name for node in repeated for name in node.input}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name in names and array.shape == (1, 1) and array.dtype.kind == "i":
            array = array.copy()
            array[...] = identity
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            return
    message = f"no constant id becomes {output}"
    raise ValueError(message)


def _upstream(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> set[str]:
    return set(_walk(node, producers))


def _walk(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> Iterator[str]:
    waiting, seen = list(node.input), set()
    while waiting:
        name = waiting.pop()
        producer = producers.get(name)
        if producer is None or producer.name in seen:
            continue
        seen.add(producer.name)
        yield producer.name
        waiting.extend(producer.input)

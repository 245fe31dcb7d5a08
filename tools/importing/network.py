"""Read an ONNX file, with the properties that every importer needs."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import checker

from tools.errors import WeightsError
from tools.importing.graph import fp16_storage

MIN_OPSET: Final = 11
"""Lowest supported opset: the first with GatherND, ScatterND and Range, which surgery adds."""
MAX_OPSET: Final = 20
"""Newest opset that onnxruntime 1.19 (of Triton 24.10) supports completely."""
MAX_IR_VERSION: Final = 10
"""Newest file format that onnxruntime 1.19 reads."""

_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})


@dataclass(frozen=True, slots=True)
class Network:
    """A checked network with one input. `model` belongs to the caller, who may change it."""

    path: Path
    sha256: str
    model: onnx.ModelProto
    opset: int
    input_name: str
    input_shape: tuple[int | None, ...]
    """Sizes of the input's axes; None if free."""

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(_count(tensor) for tensor in self.model.graph.initializer)

    def metadata(self, key: str) -> str | None:
        """Read a metadata property of the file; None if it has none of that name."""
        return {entry.key: entry.value for entry in self.model.metadata_props}.get(key)


def load_network(path: Path) -> Network:
    """Read and check an ONNX file.

    Raises:
        WeightsError: if the file is missing, not ONNX, damaged, split over several files, newer
            than Triton supports, or has not exactly one input.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise WeightsError(f"{path} is not an ONNX file") from error
    if not model.graph.node:
        raise WeightsError(f"{path} is not an ONNX file with a network")
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise WeightsError(f"{path} keeps its weights in a second file; save it as a single file")
    opset = _opset(path, model)
    fp16_storage.unpack(model)
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"{path} is not a valid ONNX network: {reason}") from error
    initialised = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialised]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise WeightsError(f"{path} has the inputs {names}; one was expected")
    return Network(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        model=model,
        opset=opset,
        input_name=inputs[0].name,
        input_shape=shape_of(inputs[0]),
    )


def shape_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Read the declared sizes of an input or output; None if a size is free."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    )


def describe(shape: tuple[int | None, ...]) -> str:
    """Format a shape for an error text: `[1,3,?,?]`."""
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"


def _opset(path: Path, model: onnx.ModelProto) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    foreign = sorted(set(versions) - _DOMAINS)
    used = {node.domain for node in model.graph.node}
    if used - _DOMAINS:
        raise WeightsError(
            f"{path} uses operators of {', '.join(sorted(used - _DOMAINS))}, which Triton lacks"
        )
    for domain in foreign:
        versions.pop(domain)
    opset = int(versions.get("", versions.get("ai.onnx", 0)))
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise WeightsError(
            f"{path} was exported with opset {opset}; {MIN_OPSET} to {MAX_OPSET} can be imported"
        )
    if model.ir_version > MAX_IR_VERSION:
        raise WeightsError(
            f"{path} has ONNX file format {model.ir_version}; "
            f"Triton 24.10 reads up to {MAX_IR_VERSION}"
        )
    return opset


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count

"""The JSON of an inference request: its shape, how deep it nests, scalars in range.

The nesting depth is counted before any recursive parser runs: 40,000 brackets kill Triton 24.10.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.errors import InvalidRequestError
from gateway.json_limits import JsonBounds, refuse_costly, refuse_doubled

_BOUNDS: Final = JsonBounds(depth=32, objects=256, texts=2048)
"""The nested data of a tensor with four axes has seven levels. Numbers are read in pieces."""
_MAX_PARAMETERS: Final = 32
_MAX_TEXT: Final = 1024
_MAX_REST: Final = 1 << 20
"""Bytes of JSON beside the tensor data, including white space."""
_INT64: Final = range(-(1 << 63), 1 << 63)

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "binary_data_output": (bool,),
    "sequence_start": (bool,),
    "sequence_end": (bool,),
    "sequence_id": (int, str),
    "priority": (int,),
    "timeout": (int,),
}
"""Parameters that Triton interprets; all others are forwarded to the model unchanged."""
_KIND_NAMES: Final = {bool: "true or false", int: "a number, 0 or more", str: "a string"}

Scalar = bool | int | float | str
Parameters = dict[str, Scalar]


class _InputJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input as received, whose long parts are not parsed yet."""

    name: str
    shape: msgspec.Raw
    datatype: str
    parameters: Parameters = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OutputIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A requested output."""

    name: str
    parameters: Parameters = {}


class _RequestJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request as received."""

    inputs: list[_InputJson]
    id: str = ""
    parameters: Parameters = {}
    outputs: list[OutputIn] = []


@dataclass(frozen=True, slots=True)
class InputIn:
    """An input tensor; `data` is the JSON of its data, None if they are binary."""

    name: str
    shape: Sequence[int]
    datatype: str
    parameters: Parameters
    data: bytes | None


@dataclass(frozen=True, slots=True)
class RequestIn:
    """An inference request without its binary tensors."""

    id: str
    parameters: Parameters
    inputs: tuple[InputIn, ...]
    outputs: tuple[OutputIn, ...]


_DECODER: Final = msgspec.json.Decoder(_RequestJson)


def parse_document(data: bytes) -> RequestIn:
    """Parse the JSON of a request; raises InvalidRequestError that says what is wrong."""
    if not data.strip():
        raise InvalidRequestError("the request has no JSON")
    refuse_costly(data, _BOUNDS)
    try:
        document = _DECODER.decode(data)
        inputs = tuple(_read_input(given) for given in document.inputs)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"the request cannot be read: {error}") from error
    if len(document.id) > _MAX_TEXT:
        raise InvalidRequestError(f"an id has {_MAX_TEXT} characters at most")
    check_parameters(document.parameters)
    refuse_doubled(_without_data(data, inputs))
    return RequestIn(document.id, document.parameters, inputs, tuple(document.outputs))


def _read_input(given: _InputJson) -> InputIn:
    shape = bytes(given.shape)
    if len(shape) > _MAX_TEXT:
        raise InvalidRequestError(f"input {given.name[:100]!r}: the shape is too long")
    try:
        sizes = msgspec.json.decode(shape, type=list[int])
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"input {given.name[:100]!r}, shape: {error}") from error
    return InputIn(
        given.name,
        sizes,
        given.datatype,
        given.parameters,
        None if isinstance(given.data, msgspec.UnsetType) else bytes(given.data),
    )


def _without_data(data: bytes, inputs: Sequence[InputIn]) -> bytes:
    """Cut out the data of the inputs, so that the rest is small."""
    for given in inputs:
        if given.data is not None and given.data.startswith(b"[") and len(given.data) > _MAX_TEXT:
            data = data.replace(given.data, b"0", 1)
    if len(data) > _MAX_REST:
        raise InvalidRequestError(f"JSON may have {_MAX_REST} bytes at most beside the data")
    return data


def check_parameters(parameters: Parameters) -> None:
    """Check the parameters of a request; raises InvalidRequestError."""
    if len(parameters) > _MAX_PARAMETERS:
        raise InvalidRequestError(f"a request has {_MAX_PARAMETERS} parameters at most")
    for name, value in parameters.items():
        if name.startswith("triton_"):
            raise InvalidRequestError(f"parameter {name[:100]!r} is reserved")
        if len(name) > _MAX_TEXT or (isinstance(value, str) and len(value) > _MAX_TEXT):
            message = f"parameter {name[:100]!r} is longer than {_MAX_TEXT} characters"
            raise InvalidRequestError(message)
        if isinstance(value, int) and value not in _INT64:
            raise InvalidRequestError(f"parameter {name!r} does not fit into 64 bits")
        kinds = _KINDS.get(name)
        if kinds and (type(value) not in kinds or (isinstance(value, int) and value < 0)):
            wanted = " or ".join(_KIND_NAMES[kind] for kind in kinds)
            raise InvalidRequestError(f"parameter {name!r} must be {wanted}")

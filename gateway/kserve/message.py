"""An inference request as a protobuf message: checked as a whole, then forwarded as it came.

What the gateway adds is written behind the message: protobuf joins two of them into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from gateway.errors import InvalidRequestError, NotFoundError
from gateway.images import ImageLimits, check_image
from gateway.kserve.document import InputIn, Parameters, check_parameters
from gateway.kserve.public_models import PublicModel, find_model
from gateway.kserve.request import check_names, refuse_unknown
from gateway.kserve.tensors import check_binary, check_shape, pixels_of_tensor, split_elements
from triton_python_backend import contract

_TEXT: Final = "BYTES"
_FIELDS: Final = {
    _TEXT: "bytes_contents",
    "FP32": "fp32_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
}
"""Where a type of the contract has its elements, unless they are in `raw_input_contents`."""
_LARGEST_UINT8: Final = 255
_MAX_TEXT: Final = 1024
_LONGEST_VERSION: Final = 18


@dataclass(frozen=True, slots=True)
class CheckedMessage:
    """A request for Triton.

    is_slow: as `Packed.is_slow`. pixels: as `Packed.pixels`.
    """

    model: str
    body: bytes
    is_slow: bool
    pixels: int
    id: str


def parse_message(kind: Any, data: bytes) -> Any:
    """Parse a message of a class of KServe; raises InvalidRequestError."""
    try:
        return kind.FromString(data)
    except (DecodeError, RecursionError):
        # not chained: its text may quote the message
        raise InvalidRequestError(f"the message is no {kind.DESCRIPTOR.name}") from None


def check_version(version: str) -> str:
    """Return a version as Triton writes it; empty: the one in service. Raises NotFoundError."""
    if not version:
        return ""
    if not (version.isascii() and version.isdecimal() and len(version) <= _LONGEST_VERSION):
        raise NotFoundError("the version must be a number")
    return str(int(version))


def check_message(data: bytes, *, scored: bool, limits: ImageLimits) -> CheckedMessage:
    """Check a `ModelInferRequest`.

    Raises:
        NotFoundError: a model that is not offered, a version that is no number.
        InvalidRequestError: it is inconsistent or does not fit the model.
        AurumError: as `check_image`.

    """
    request = parse_message(service_pb2.ModelInferRequest, data)
    model = find_model(request.model_name, scored=scored)
    version = check_version(request.model_version)
    if len(request.id) > _MAX_TEXT:
        raise InvalidRequestError(f"an id has {_MAX_TEXT} characters at most")
    parameters = _parameters(request.parameters)
    check_parameters(parameters)
    is_slow, pixels = parameters.get("detail") == "high", 0
    for given, elements, is_image, tensor_pixels in _inputs(request, model):
        pixels += tensor_pixels
        if not is_image:
            continue
        if elements is None:
            raise InvalidRequestError(f"input {given.name!r} needs data")
        for image in elements:
            checked = check_image(image, limits)
            is_slow |= checked.is_slow
            pixels += checked.width * checked.height
    more = service_pb2.ModelInferRequest()
    if version != request.model_version:
        more.model_version = version
    _check_outputs(request, model)
    if not request.outputs:
        # without a list Triton answers with all outputs, hidden ones included
        for tensor in model.outputs:
            more.outputs.add(name=tensor.name)
    return CheckedMessage(model.name, data + more.SerializeToString(), is_slow, pixels, request.id)


def _inputs(
    request: Any, model: PublicModel
) -> list[tuple[InputIn, Sequence[bytes] | None, bool, int]]:
    """Check all inputs; returns each, the elements of BYTES, whether it holds images, its pixels.

    The pixels are those of a tensor with colours; images are not looked at here.
    """
    known = {tensor.name: tensor for tensor in model.inputs}
    names = check_names("input", [each.name for each in request.inputs], known, model)
    missing = sorted(set(known) - set(names))
    if missing:
        raise InvalidRequestError(f"input {missing[0]!r} of {model.name} is missing")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        message = f"raw_input_contents has {len(raw)} tensors, inputs has {len(request.inputs)}"
        raise InvalidRequestError(message)
    found: list[tuple[InputIn, Sequence[bytes] | None, bool, int]] = []
    for index, each in enumerate(request.inputs):
        tensor = known[each.name]
        refuse_unknown(f"input {each.name!r}", set(each.parameters))
        given = InputIn(each.name, list(each.shape), each.datatype, {}, None)
        count = check_shape(given, tensor, max_batch_size=model.max_batch_size)
        if raw and each.HasField("contents"):
            message = f"input {each.name!r} has contents beside raw_input_contents"
            raise InvalidRequestError(message)
        elements = _raw(given, raw[index], count) if raw else _typed(given, each.contents, count)
        pixels = pixels_of_tensor(tensor, count=count)
        found.append((given, elements, tensor.name == contract.IMAGE, pixels))
    return found


def _raw(given: InputIn, data: bytes, count: int) -> Sequence[bytes] | None:
    if given.datatype == _TEXT:
        return split_elements(given.name, data, count=count)
    check_binary(given, data, count=count)
    return None


def _typed(given: InputIn, contents: Any, count: int) -> Sequence[bytes] | None:
    wanted = _FIELDS[given.datatype]
    for field, values in contents.ListFields():
        if field.name != wanted:
            message = f"input {given.name!r}: {given.datatype} has its data in {wanted}"
            raise InvalidRequestError(message)
        if len(values) != count:
            message = f"input {given.name!r}: its shape has {count} elements, not {len(values)}"
            raise InvalidRequestError(message)
        if given.datatype == "UINT8" and max(values) > _LARGEST_UINT8:
            raise InvalidRequestError(f"input {given.name!r}: a number does not fit into UINT8")
        return values if given.datatype == _TEXT else None
    raise InvalidRequestError(f"input {given.name!r} needs data")


def _check_outputs(request: Any, model: PublicModel) -> None:
    known = {tensor.name: tensor for tensor in model.outputs}
    check_names("output", [each.name for each in request.outputs], known, model)
    for each in request.outputs:
        refuse_unknown(f"output {each.name!r}", set(each.parameters))


def _parameters(given: Any) -> Parameters:
    parameters: Parameters = {}
    for name, value in given.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequestError(f"parameter {name[:100]!r} has no value")
        parameters[name] = getattr(value, choice)
    return parameters

"""An inference request: read and checked as a whole, then rewritten for Triton.

Triton receives only JSON that was written here, and all inputs in binary form.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    UnsupportedMediaTypeError,
)
from gateway.images import ImageLimits, check_image
from gateway.kserve.document import InputIn, OutputIn, RequestIn, parse_document
from gateway.kserve.public_models import PublicModel
from gateway.kserve.tensors import (
    check_binary,
    check_shape,
    pack_json,
    pixels_of_tensor,
    split_elements,
)
from triton_python_backend import contract
from triton_python_backend.contract import Tensor

_SIZE: Final = "binary_data_size"
_BINARY: Final = "binary_data"
_ALL_BINARY: Final = "binary_data_output"
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


@dataclass(frozen=True, slots=True)
class Packed:
    """A request as Triton receives it: JSON of `head_bytes` bytes, then the tensors."""

    body: bytes
    head_bytes: int
    is_slow: bool = False
    """Whether it takes as long as many others: an image that is slow to decode, or high detail."""
    pixels: int = 0
    """Of its images, by their headers, and of tensors with the colours of pixels."""


def unpack(body: bytes, encoding: str, *, most: int) -> bytes:
    """Decompress a body, up to `most` bytes.

    Raises:
        UnsupportedMediaTypeError: an encoding other than gzip and deflate.
        ImageTooLargeError: more bytes than that.
        InvalidRequestError: the bytes are not what the encoding says.

    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOW_BITS:
        message = f"content encoding {name[:100]!r}: send gzip, deflate or none"
        raise UnsupportedMediaTypeError(message)
    unpacker = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise InvalidRequestError(f"the body is not {name}") from error
    if len(unpacked) > most:
        raise ImageTooLargeError(too_large(most))
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidRequestError(f"the body is not one complete {name} stream")
    return unpacked


def too_large(most: int) -> str:
    """Describe a body of more than `most` bytes."""
    return f"the body of a request may have {most} bytes at most"


def pack_request(
    body: bytes, *, head_bytes: int | None, model: PublicModel, limits: ImageLimits
) -> Packed:
    """Read a request and rewrite it for Triton.

    head_bytes: length of the JSON in the body; None if all of it is JSON. Raises as `check_image`,
    and InvalidRequestError for a request that is inconsistent or does not fit the model.
    """
    if head_bytes is not None and head_bytes > len(body):
        message = f"Inference-Header-Content-Length is {head_bytes}, the body has {len(body)} bytes"
        raise InvalidRequestError(message)
    head = body if head_bytes is None else body[:head_bytes]
    document = parse_document(head)
    blobs = _split(document, body[len(head) :])
    tensors = _match_inputs(document, model)
    is_slow = document.parameters.get("detail") == "high"
    pixels = 0
    packed: list[bytes] = []
    for given, blob, tensor in zip(document.inputs, blobs, tensors, strict=True):
        count = check_shape(given, tensor, max_batch_size=model.max_batch_size)
        data = _pack_input(given, blob, count)
        pixels += pixels_of_tensor(tensor, count=count)
        if tensor.name == contract.IMAGE:
            images = split_elements(given.name, data, count=count)
            checked = [check_image(image, limits) for image in images]
            is_slow |= any(image.is_slow for image in checked)
            pixels += sum(image.width * image.height for image in checked)
        packed.append(data)
    written: dict[str, Any] = {
        "inputs": [
            {
                "name": given.name,
                "shape": given.shape,
                "datatype": given.datatype,
                "parameters": {_SIZE: len(data)},
            }
            for given, data in zip(document.inputs, packed, strict=True)
        ],
        "outputs": _outputs(document, model),
    }
    parameters = {key: value for key, value in document.parameters.items() if key != _ALL_BINARY}
    if parameters:
        written["parameters"] = parameters
    if document.id:
        written["id"] = document.id
    json = orjson.dumps(written)
    return Packed(b"".join([json, *packed]), len(json), is_slow, pixels)


def _split(document: RequestIn, rest: bytes) -> list[bytes | None]:
    """Return for each input its bytes behind the JSON; None if its data are JSON."""
    blobs: list[bytes | None] = []
    at = 0
    for given in document.inputs:
        size = _binary_size(given)
        if size is None:
            blobs.append(None)
            continue
        if size > len(rest) - at:
            left = len(rest) - at
            message = f"input {given.name[:100]!r}: {_SIZE} exceeds the {left} bytes that follow"
            raise InvalidRequestError(message)
        blobs.append(rest[at : at + size])
        at += size
    if at != len(rest):
        message = f"{len(rest) - at} bytes of the body belong to no input"
        raise InvalidRequestError(message)
    return blobs


def _binary_size(given: InputIn) -> int | None:
    name = given.name[:100]
    refuse_unknown(f"input {name!r}", set(given.parameters) - {_SIZE})
    size = given.parameters.get(_SIZE)
    if (size is None) == (given.data is None):
        raise InvalidRequestError(f"input {name!r} needs either data or {_SIZE}")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidRequestError(f"input {name!r}: {_SIZE} must be a number, 0 or more")
    return size


def _match_inputs(document: RequestIn, model: PublicModel) -> list[Tensor]:
    known = {tensor.name: tensor for tensor in model.inputs}
    given = check_names("input", [each.name for each in document.inputs], known, model)
    missing = sorted(set(known) - set(given))
    if missing:
        raise InvalidRequestError(f"input {missing[0]!r} of {model.name} is missing")
    return [known[name] for name in given]


def _pack_input(given: InputIn, blob: bytes | None, count: int) -> bytes:
    if given.data is not None:
        return pack_json(given, given.data, count=count)
    return check_binary(given, blob or b"", count=count)


def _outputs(document: RequestIn, model: PublicModel) -> list[dict[str, Any]]:
    """List the requested outputs with their form; all outputs if none is requested."""
    all_binary = document.parameters.get(_ALL_BINARY, False)
    known = {tensor.name: tensor for tensor in model.outputs}
    wanted = document.outputs or [OutputIn(name) for name in known]
    check_names("output", [each.name for each in wanted], known, model)
    outputs: list[dict[str, Any]] = []
    for each in wanted:
        refuse_unknown(f"output {each.name!r}", set(each.parameters) - {_BINARY})
        binary = each.parameters.get(_BINARY, all_binary)
        if type(binary) is not bool:
            raise InvalidRequestError(f"output {each.name!r}: {_BINARY} must be true or false")
        outputs.append({"name": each.name, "parameters": {_BINARY: binary}})
    return outputs


def check_names(
    kind: str, given: Sequence[str], known: dict[str, Tensor], model: PublicModel
) -> Sequence[str]:
    """Return the names if each is known and occurs once; raises InvalidRequestError."""
    seen: set[str] = set()
    for name in given:
        if name not in known:
            message = f"unknown {kind} {name[:100]!r} of {model.name}; known: {', '.join(known)}"
            raise InvalidRequestError(message)
        if name in seen:
            raise InvalidRequestError(f"{kind} {name!r} is given twice")
        seen.add(name)
    return given


def refuse_unknown(where: str, names: set[str]) -> None:
    """Refuse unsupported parameters of a tensor, such as shared memory or classification."""
    if names:
        name = min(names)[:100]
        raise InvalidRequestError(f"{where}: parameter {name!r} is not offered")

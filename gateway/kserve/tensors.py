"""One input tensor: checks type, shape and data, and packs it in KServe's binary form."""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.errors import InvalidRequestError
from gateway.kserve.document import InputIn
from triton_python_backend.contract import Tensor

_NUMBERS: Final[dict[str, np.dtype[Any]]] = {
    "FP32": np.dtype("<f4"),
    "UINT8": np.dtype("u1"),
    "INT64": np.dtype("<i8"),
}
"""The numeric types of the contract, little-endian as on the wire."""
_TEXT: Final = "BYTES"
_COLOURS: Final = 3
_PIECE_BYTES: Final = 128 * 1024
"""Bytes of JSON numbers that are decoded in about a millisecond."""
_LENGTH: Final = struct.Struct("<I")


def check_shape(given: InputIn, tensor: Tensor, *, max_batch_size: int) -> int:
    """Check type and shape against the contract; returns the number of elements.

    Raises InvalidRequestError.
    """
    name = tensor.name
    if given.datatype != tensor.dtype:
        message = f"input {name!r} has the datatype {tensor.dtype}, not {given.datatype[:20]!r}"
        raise InvalidRequestError(message)
    dims = (-1, *tensor.dims) if max_batch_size else tensor.dims
    shape = given.shape
    fits = len(shape) == len(dims) and all(
        size >= 1 and dim in (-1, size) for size, dim in zip(shape, dims, strict=True)
    )
    if not fits:
        message = f"input {name!r} has the shape {_show(dims)} (-1: 1 or more), not {_show(shape)}"
        raise InvalidRequestError(message)
    if max_batch_size and shape[0] > max_batch_size:
        message = f"input {name!r}: a batch has {max_batch_size} rows at most, not {shape[0]}"
        raise InvalidRequestError(message)
    return math.prod(shape)


def pixels_of_tensor(tensor: Tensor, *, count: int) -> int:
    """Return the pixels of a tensor of colours; 0 for any other.

    count: its elements, three for each pixel.
    """
    return count // _COLOURS if tensor.dtype == "UINT8" and tensor.dims[-1] == _COLOURS else 0


def pack_json(given: InputIn, data: bytes, *, count: int) -> bytes:
    """Pack JSON data, flat or nested; raises InvalidRequestError."""
    name = given.name
    if not data.startswith(b"["):
        raise InvalidRequestError(f"input {name!r}: data must be a list")
    try:
        if given.datatype == _TEXT:
            texts = msgspec.json.decode(data, type=list[str])
            elements = [text.encode() for text in texts]
            _check_count(name, len(elements), count)
            return join_elements(elements)
        return _pack_numbers(given, data, count)
    except (msgspec.DecodeError, UnicodeError, OverflowError) as error:
        message = f"input {name!r}: data are not {given.datatype}: {error}"
        raise InvalidRequestError(message) from error


def _pack_numbers(given: InputIn, data: bytes, count: int) -> bytes:
    # the order of the rows does not depend on the nesting. A string keeps its quotes and is refused
    flat = data.translate(None, b"[] \t\r\n")
    _check_count(given.name, flat.count(b",") + 1 if flat else 0, count)
    kind = _NUMBERS[given.datatype]
    values = np.concatenate(list(_decode_numbers(flat, kind)))
    _check_count(given.name, values.size, count)
    with np.errstate(over="ignore"):
        packed = values.astype(kind)
    fits = np.isfinite(packed).all() if kind.kind == "f" else (packed == values).all()
    if not fits:
        message = f"input {given.name!r}: a number does not fit into {given.datatype}"
        raise InvalidRequestError(message)
    written: bytes = packed.tobytes()
    return written


def _decode_numbers(flat: bytes, kind: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    """Decode numbers separated by commas, in pieces, so that other threads run in between."""
    real = kind.kind == "f"
    numbers, wide = (list[float], np.float64) if real else (list[int], np.int64)
    at = 0
    while at < len(flat):
        comma = flat.find(b",", at + _PIECE_BYTES)
        end = len(flat) if comma < 0 else comma
        piece = b"[" + flat[at:end] + b"]"
        yield np.array(msgspec.json.decode(piece, type=numbers), dtype=wide)
        at = end + 1


def check_binary(given: InputIn, data: bytes, *, count: int) -> bytes:
    """Check binary data and return them; raises InvalidRequestError."""
    if given.datatype == _TEXT:
        split_elements(given.name, data, count=count)
        return data
    expected = count * _NUMBERS[given.datatype].itemsize
    if len(data) != expected:
        message = (
            f"input {given.name!r}: {expected} bytes belong to shape {_show(given.shape)} and "
            f"datatype {given.datatype}, not {len(data)}"
        )
        raise InvalidRequestError(message)
    return data


def split_elements(name: str, data: bytes, *, count: int) -> list[bytes]:
    """Split packed BYTES, each with its length before it; raises InvalidRequestError."""
    elements: list[bytes] = []
    at = 0
    while at < len(data) and len(elements) <= count:
        start = at + _LENGTH.size
        if start > len(data):
            raise InvalidRequestError(f"input {name!r}: the last length is cut off")
        (length,) = _LENGTH.unpack_from(data, at)
        at = start + length
        if at > len(data):
            message = (
                f"input {name!r}: an element claims {length} bytes, {len(data) - start} follow"
            )
            raise InvalidRequestError(message)
        elements.append(data[start:at])
    _check_count(name, len(elements), count)
    return elements


def join_elements(elements: Sequence[bytes]) -> bytes:
    """Pack BYTES."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def _check_count(name: str, found: int, count: int) -> None:
    if found != count:
        have = "more" if found > count else found
        message = f"input {name!r}: its shape has {count} elements, its data have {have}"
        raise InvalidRequestError(message)


def _show(shape: Sequence[int]) -> str:
    # Python refuses to format a number of thousands of digits
    sizes = ",".join(str(size) if abs(size) < 1 << 63 else "…" for size in shape[:8])
    return f"[{sizes}{',…' if len(shape) > 8 else ''}]"

"""Cursors of lists, JSON documents and inference requests of KServe."""

import json
from contextlib import suppress
from typing import Any, Final

from gateway.api.fields import parse_json
from gateway.api.pagination import read_cursor, write_cursor
from gateway.errors import AurumError, InvalidRequestError
from gateway.images import ImageLimits
from gateway.json_limits import JsonBounds
from gateway.kserve.public_models import public_models
from gateway.kserve.request import pack_request, unpack

_BOUNDS: Final = JsonBounds(depth=8, objects=20, texts=60, commas=100)
_MODELS: Final = public_models(scored=True)
_LIMITS: Final = ImageLimits(max_bytes=1 << 20, max_megapixels=1.0)
_KINDS: Final[tuple[tuple[type, ...], ...]] = ((str,), (int,), (float, str), (str, str))


def cursors(data: bytes) -> None:
    """A cursor is refused, or holds values of its types; the first byte chooses them."""
    kinds = _KINDS[data[0] % len(_KINDS)] if data else (str,)
    text = data[1:].decode("utf-8", "surrogateescape")
    try:
        position = read_cursor(text, *kinds)
    except InvalidRequestError:
        return
    assert position is not None
    assert [type(value) for value in position] == list(kinds)
    for value in position:
        if isinstance(value, str):
            assert "\0" not in value
            value.encode()
    assert read_cursor(write_cursor(*position), *kinds) == position


def json_limits(data: bytes) -> None:
    """What is parsed keeps the limits of depth and number, and Python reads the same from it."""
    try:
        document = parse_json(data, bounds=_BOUNDS)
    except InvalidRequestError:
        return
    assert _depth(document) <= _BOUNDS.depth
    assert _count(document, dict) <= _BOUNDS.objects
    assert json.loads(data, parse_int=_number) == document


def kserve(data: bytes) -> None:
    """A request is refused with a known error, or packed so that its JSON has the length stated.

    The first two bytes choose the model and where the JSON ends; a body may be compressed.
    """
    if len(data) < 3:
        return
    model, body = _MODELS[data[0] % len(_MODELS)], data[2:]
    with suppress(AurumError):
        unpack(body, "gzip", most=1 << 16)
    end = body.find(b"}}") + 2 if data[1] == 1 else data[1] * 8
    try:
        packed = pack_request(
            body, head_bytes=None if data[1] == 0 else end, model=model, limits=_LIMITS
        )
    except AurumError:
        return
    head = json.loads(packed.body[: packed.head_bytes])
    sizes = [each["parameters"]["binary_data_size"] for each in head["inputs"]]
    assert packed.head_bytes + sum(sizes) == len(packed.body)


def _number(text: str) -> int | float:
    """Read a whole number as orjson does: as a float beyond 64 bits."""
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 64 else float(text)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(each) for each in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(each) for each in value), default=0)
    return 0


def _count(value: Any, kind: type) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, kind) + sum(_count(each, kind) for each in inner)

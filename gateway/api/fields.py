"""Parses the fields of a request: strict JSON, texts of forms and queries, base64 images."""

import base64
import binascii
from collections.abc import Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Never, TypeVar, Union, get_args, get_origin
from urllib.parse import unquote

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from gateway.api.context import unknown_name
from gateway.errors import ImageTooLargeError, InvalidImageError, InvalidRequestError
from gateway.images import too_many_bytes
from gateway.json_limits import JsonBounds, refuse_costly, refuse_doubled

In = TypeVar("In", bound=BaseModel)

_BOUNDS: Final = JsonBounds(depth=32, objects=4096, texts=65_536, commas=1 << 18)
"""32 embeddings of 4,096 numbers, each with 16 texts, use half of that."""
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_BLANKS: Final = b" \t\r\n\f\v"
_ESCAPES: Final = {"%2B": "+", "%2F": "/", "%3D": "=", "%0D": "", "%0A": "", "%20": ""}
"""Characters of base64 that data URIs escape; other escapes cost a microsecond each."""
_FEW_ESCAPES: Final = 4096


def parse_json(text: bytes | str, name: str = "the body", *, bounds: JsonBounds = _BOUNDS) -> Any:
    """Parse JSON by RFC 8259 and I-JSON: UTF-8, no NaN, no lone surrogate, no duplicate key.

    Raises InvalidRequestError that names `name`, also for a document that is costly to parse.
    """
    refuse_costly(text.encode("utf-8", "replace") if isinstance(text, str) else text, bounds)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message = f"{name} is not JSON: {error.msg} at character {error.pos}"
        raise InvalidRequestError(message) from error
    refuse_doubled(text)
    return document


def read_fields(values: Mapping[str, Any], texts: Mapping[str, str], shape: type[In]) -> In:
    """Validate fields: `values` must have the right types; `texts` are parsed.

    Raises InvalidRequestError that names the field.
    """
    typed = dict(values)
    for name, text in texts.items():
        typed[name] = _parse_text(name, text, shape)
    for name, value in typed.items():
        if name not in shape.model_fields:
            raise InvalidRequestError(unknown_name("field", name, sorted(shape.model_fields)))
        _find_nul(name, value)
        if isinstance(value, float) and value.is_integer() and _takes_int(shape, name):
            # 10.0 is an integer in JSON, too
            typed[name] = int(value)
    try:
        return shape.model_validate(typed, strict=True)
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError, *before: str) -> Never:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part)[:100] for part in (*before, *first["loc"]))
    raise InvalidRequestError(f"field {path!r}: {first['msg']}") from error


def _find_nul(name: str, value: object) -> None:
    """Refuse NUL in texts: PostgreSQL cannot store it."""
    if isinstance(value, str):
        if "\0" in value:
            _refuse_nul(f"field {name!r}")
    elif isinstance(value, Mapping):
        for each in value.values():
            _find_nul(name, each)
    elif isinstance(value, list) and not (value and isinstance(value[0], float)):
        for each in value:
            _find_nul(name, each)


def _refuse_nul(what: str) -> Never:
    raise InvalidRequestError(f"{what} contains the character NUL")


def _parse_text(name: str, text: str, shape: type[BaseModel]) -> object:
    """Read a text by the type of its field; objects and lists are JSON."""
    field = shape.model_fields.get(name)
    if field is None or "\0" in text:
        return text
    if _is_structure(field.annotation):
        return parse_json(text, f"field {name!r}")
    try:
        return _adapter(shape, name).validate_python(text)
    except ValidationError as error:
        _refuse(error, name)


@lru_cache(maxsize=256)
def _adapter(shape: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field: FieldInfo = shape.model_fields[name]
    # a type that is known at run time only
    kind: Any = (
        Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    )
    return TypeAdapter(kind)


def _takes_int(shape: type[BaseModel], name: str) -> bool:
    kinds = set(_members(shape.model_fields[name].annotation))
    return int in kinds and float not in kinds


def _members(annotation: Any) -> list[Any]:
    """List the types of an annotation, except None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _members(each)]
    return [] if annotation is NoneType else [annotation]


def _is_structure(annotation: Any) -> bool:
    for kind in _members(annotation):
        origin = get_origin(kind) or kind
        if isinstance(origin, type) and issubclass(origin, (dict, list, tuple, BaseModel)):
            return True
    return False


def decode_image(name: str, value: object, limit: int) -> bytes:
    """Decode base64 (RFC 4648, with or without padding, also URL-safe) or a data URI of it.

    Errors contain `name`.

    Raises:
        InvalidRequestError: not a string, or a data URI without base64.
        InvalidImageError: the text is not base64.
        ImageTooLargeError: more than `limit` bytes.

    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"JSON field {name!r} must be base64 or a data URI")
    text = value.lstrip()
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.rstrip().lower().endswith(";base64"):
            raise InvalidRequestError(f"JSON field {name!r}: the data URI is not base64")
        text = _unescape(name, text, limit)
    try:
        packed = text.encode("ascii").translate(None, _BLANKS)
    except UnicodeEncodeError as error:
        raise InvalidImageError(f"{name} is not base64") from error
    digits = packed.rstrip(b"=")
    # `check_image` counts exactly
    if len(digits) * 3 // 4 > limit:
        raise ImageTooLargeError(too_many_bytes(limit))
    missing = -len(digits) % 4
    url_safe = b"-" in digits or b"_" in digits
    # padding is complete or left out, and only one alphabet is used
    if len(packed) - len(digits) not in (0, missing) or (
        url_safe and (b"+" in digits or b"/" in digits)
    ):
        raise InvalidImageError(f"{name} is not base64")
    try:
        return base64.b64decode(digits.translate(_URL_SAFE) + b"=" * missing, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImageError(f"{name} is not base64") from error


def _unescape(name: str, text: str, limit: int) -> str:
    """Undo percent encoding; raises as `decode_image`."""
    if "%" not in text:
        return text
    if len(text) > 4 * limit + _FEW_ESCAPES:
        # even with every digit escaped, as three characters
        raise ImageTooLargeError(too_many_bytes(limit))
    for escape, plain in _ESCAPES.items():
        text = text.replace(escape, plain).replace(escape.lower(), plain)
    if text.count("%") > _FEW_ESCAPES:
        raise InvalidImageError(f"{name} is not base64")
    return unquote(text)

"""Rank 4: request bodies of the collection routes: fields of one shape, and images beside them.

The fields come as JSON, as text fields of a form, or, with a raw image as the body, in the query.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from gateway.collections.intake import NamedImage
from gateway.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from gateway.images import too_many_bytes
from gateway.routes.chunks import Pieces
from gateway.routes.context import context_of, services_of, unknown_name
from gateway.routes.uploads import collect, decode_image, part_chunks, refuse_announced

_FORM: Final = "multipart/form-data"
_JSON: Final = "application/json"
_MAX_FIELDS_BYTES: Final = 4 * 1024 * 1024
"""Fields beside the images: 32 embeddings of 512 numbers are half a megabyte."""
_IMAGE: Final = "image"
_IMAGES: Final = "images"
_MAX_NAME: Final = 200
_JSON_STARTS: Final = ("{", "[")
In = TypeVar("In", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class BodySpec:
    """What a route takes: fields, and no, one or many images."""

    shape: type[BaseModel]
    images: Literal["none", "one", "many"]


@dataclass(frozen=True, slots=True)
class Body(Generic[In]):
    """The fields and images of a request."""

    fields: In
    images: tuple[NamedImage, ...]
    given: frozenset[str]
    """Names of the fields that were sent."""

    def fingerprint(self, route: str) -> str:
        """Digest of all that the request asks for, the same for a form and for JSON."""
        digest = hashlib.sha256(route.encode())
        fields = self.fields.model_dump(mode="json")
        digest.update(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
        for image in self.images:
            digest.update(hashlib.sha256(image.data).digest())
        return digest.hexdigest()


@dataclass(slots=True)
class _Parts:
    """What was read so far."""

    values: dict[str, Any] = field(default_factory=dict)
    images: list[NamedImage] = field(default_factory=list)

    def add(self, name: str, value: object) -> None:
        if name in self.values:
            raise InvalidRequestError(f"field {name!r} is given twice")
        self.values[name] = value


async def read_body(request: web.Request, spec: BodySpec, shape: type[In]) -> Body[In]:
    """Read the body of a request within its deadline.

    Raises as `uploads.read_upload`; a body that is left out is one without fields.
    """
    seconds = context_of(request).deadline.remaining_seconds()
    try:
        async with asyncio.timeout(seconds):
            parts = await _read(request, spec)
    except TimeoutError as error:
        raise RequestTimeoutError("the body did not arrive within the deadline") from error
    return Body(_validated(parts.values, shape), tuple(parts.images), frozenset(parts.values))


async def _read(request: web.Request, spec: BodySpec) -> _Parts:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("send the body without a content encoding")
    settings = services_of(request).settings
    limit = settings.max_image_bytes
    number = {"none": 0, "one": 1, "many": settings.max_enrol_images}[spec.images]
    most = min(limit * number, settings.max_enrol_megabytes << 20) + _MAX_FIELDS_BYTES
    kind = request.content_type if "Content-Type" in request.headers else ""
    parts = _Parts()
    if not request.can_read_body:
        # whatever type an empty body claims to have: curl and aiohttp add one of their own
        pass
    elif kind == _JSON:
        packed = most * 4 // 3
        refuse_announced(request, packed, limit)
        body = await collect(Pieces(request), packed, limit)
        deadline = context_of(request).deadline
        work = partial(_parse_json, body, spec, limit)
        parts = await services_of(request).workers.run(work, deadline=deadline)
    elif kind == _FORM and number:
        refuse_announced(request, most, limit)
        await _read_form(request, spec, limit, most, parts)
    elif kind.startswith("image/") and number:
        refuse_announced(request, limit, limit)
        data = await collect(Pieces(request), limit, limit)
        parts.images.append(NamedImage(data, None))
    else:
        ways = f"{_FORM}, {_JSON} or image/*" if number else _JSON
        message = f"content type {kind[:100] or 'missing'}: send {ways}"
        raise UnsupportedMediaTypeError(message)
    for name, value in request.query.items():
        parts.add(name, _from_text(value))
    if len(parts.images) > number:
        raise InvalidRequestError(f"{len(parts.images)} images, {number} may be")
    return parts


def _parse_json(body: bytes, spec: BodySpec, limit: int) -> _Parts:
    try:
        document = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        message = f"the body is no JSON: {error.msg} at character {error.pos}"
        raise InvalidRequestError(message) from error
    if not isinstance(document, dict):
        raise InvalidRequestError("the body must be a JSON object")
    parts = _Parts()
    for name, value in document.items():
        if name == "image_url":
            raise InvalidRequestError("image_url is not offered yet; send the image itself")
        if name == _IMAGE and spec.images != "none":
            parts.images.append(NamedImage(decode_image(name, value, limit), None))
        elif name == _IMAGES and spec.images == "many":
            if not isinstance(value, list):
                raise InvalidRequestError("JSON field 'images' must be a list")
            parts.images += [NamedImage(decode_image(name, each, limit), None) for each in value]
        else:
            parts.add(name, value)
    return parts


async def _read_form(
    request: web.Request, spec: BodySpec, limit: int, most: int, parts: _Parts
) -> None:
    size = 0
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise InvalidRequestError("a form field cannot hold a form of its own")
            name = part.name or ""
            is_image = name == _IMAGE or (name == _IMAGES and spec.images == "many")
            data = await collect(part_chunks(part), limit if is_image else _MAX_FIELDS_BYTES, limit)
            size += len(data)
            if size > most:
                raise ImageTooLargeError(too_many_bytes(most))
            if is_image:
                file_name = part.filename[:_MAX_NAME] if part.filename else None
                parts.images.append(NamedImage(data, file_name))
            else:
                parts.add(name, _from_text(data.decode("utf-8")))
    except (ValueError, AssertionError, HttpProcessingError) as error:
        # what aiohttp raises for a body that is no form, e.g. without a boundary
        raise InvalidRequestError("the body is no well-formed multipart/form-data") from error


def _from_text(text: str) -> object:
    """Objects and lists come as JSON inside a text field; everything else is read as it is."""
    if text.lstrip().startswith(_JSON_STARTS):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            message = f"{text[:60]!r} is no JSON: {error.msg} at character {error.pos}"
            raise InvalidRequestError(message) from error
    return text


def _validated(values: Mapping[str, Any], shape: type[In]) -> In:
    for name in values:
        if name not in shape.model_fields:
            raise InvalidRequestError(unknown_name("field", name, sorted(shape.model_fields)))
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise InvalidRequestError(f"field {path!r}: {first['msg']}") from error

"""Rank 4: request bodies: three ways of sending an image, never more of one than may be kept."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import orjson
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import (
    ImageTooLargeError,
    InvalidImageError,
    InvalidRequestError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from gateway.images import too_many_bytes
from gateway.routes.chunks import Pieces
from gateway.routes.context import context_of, services_of, unknown_name

_FORM: Final = "multipart/form-data"
_JSON: Final = "application/json"
_OVERHEAD_BYTES: Final = 64 * 1024
"""What a body may hold beside its images: boundaries, headers, names, small fields."""
_MAX_FIELD_BYTES: Final = 1024
_PLAIN_ENCODINGS: Final = frozenset({"", "binary", "8bit", "7bit"})


@dataclass(frozen=True, slots=True)
class Fields:
    """What a route takes: images by name, all required, and small text fields, all optional."""

    images: tuple[str, ...]
    texts: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All names."""
        return [*self.images, *self.texts]


@dataclass(frozen=True, slots=True)
class Upload:
    """The encoded images of a request and its text fields, by name."""

    images: Mapping[str, bytes]
    texts: Mapping[str, str]


async def read_upload(request: web.Request, fields: Fields) -> Upload:
    """Read the body of a request within its deadline.

    Raises:
        InvalidRequestError: a field is unknown, missing, given twice or no image.
        UnsupportedMediaTypeError: the content type is none of the three.
        ImageTooLargeError: as soon as more bytes came than may be.
        RequestTimeoutError: the body came too slowly.

    """
    seconds = context_of(request).deadline.remaining_seconds()
    limit = services_of(request).settings.max_image_bytes
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, fields, limit)
    except TimeoutError as error:
        raise RequestTimeoutError("the body did not arrive within the deadline") from error


async def _read(request: web.Request, fields: Fields, limit: int) -> Upload:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("send the body without a content encoding")
    kind = request.content_type if "Content-Type" in request.headers else ""
    if kind == _FORM:
        refuse_announced(request, limit * len(fields.images) + _OVERHEAD_BYTES, limit)
        return await _read_form(request, fields, limit)
    if kind == _JSON:
        # four characters of base64 carry three bytes
        most = limit * len(fields.images) * 4 // 3 + _OVERHEAD_BYTES
        refuse_announced(request, most, limit)
        body = await collect(Pieces(request), most, limit)
        context = context_of(request)
        return await services_of(request).workers.run(
            partial(parse_json, body, fields=fields, limit=limit), deadline=context.deadline
        )
    if kind.startswith("image/") and len(fields.images) == 1:
        refuse_announced(request, limit, limit)
        data = await collect(Pieces(request), limit, limit)
        return Upload({fields.images[0]: data}, {})
    ways = f"{_FORM}, {_JSON}" + (" or image/*" if len(fields.images) == 1 else "")
    message = f"content type {kind[:100] or 'missing'}: send {ways}"
    raise UnsupportedMediaTypeError(message)


def refuse_announced(request: web.Request, most: int, limit: int) -> None:
    """Refuse a body that is announced as larger than `most`; `limit` is named in the error."""
    if request.content_length is not None and request.content_length > most:
        raise ImageTooLargeError(too_many_bytes(limit))


async def collect(chunks: AsyncIterator[bytes], most: int, limit: int) -> bytes:
    """Gather chunks; raises ImageTooLargeError as soon as there are more bytes than `most`."""
    body = bytearray()
    async for chunk in chunks:
        if len(body) + len(chunk) > most:
            raise ImageTooLargeError(too_many_bytes(limit))
        body += chunk
    return bytes(body)


async def part_chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    """Read a form field piece by piece."""
    while chunk := await part.read_chunk():
        yield chunk


async def _read_form(request: web.Request, fields: Fields, limit: int) -> Upload:
    images: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise InvalidRequestError("a form field cannot hold a form of its own")
            name = part.name or ""
            _check_name(name, "form field", fields, {*images, *texts})
            if part.headers.get("Content-Transfer-Encoding", "").lower() not in _PLAIN_ENCODINGS:
                raise InvalidRequestError(f"form field {name!r}: send the bytes as they are")
            if name in fields.images:
                images[name] = await collect(part_chunks(part), limit, limit)
            else:
                texts[name] = await _read_text(part, name)
    except (ValueError, AssertionError, HttpProcessingError) as error:
        # what aiohttp raises for a body that is no form, e.g. without a boundary
        raise InvalidRequestError("the body is no well-formed multipart/form-data") from error
    _check_complete(images, "form field", fields)
    return Upload(images, texts)


async def _read_text(part: BodyPartReader, name: str) -> str:
    body = bytearray()
    async for chunk in part_chunks(part):
        body += chunk
        if len(body) > _MAX_FIELD_BYTES:
            raise InvalidRequestError(f"form field {name!r} is too long")
    return body.decode("utf-8")


def parse_json(body: bytes, *, fields: Fields, limit: int) -> Upload:
    """Parse a JSON body; images are base64 or data URIs. Raises as `read_upload`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"the body is no JSON: {error.msg} at character {error.pos}"
        raise InvalidRequestError(message) from error
    if not isinstance(document, dict):
        raise InvalidRequestError("the body must be a JSON object")
    images: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    for name, value in document.items():
        _check_name(name, "JSON field", fields, set())
        if name in fields.images:
            images[name] = decode_image(name, value, limit)
        elif value is not None:
            texts[name] = str(value)
    _check_complete(images, "JSON field", fields)
    return Upload(images, texts)


def _check_name(name: str, kind: str, fields: Fields, seen: set[str]) -> None:
    if name == "image_url":
        raise InvalidRequestError("image_url is not offered yet; send the image itself")
    if name not in fields.names:
        raise InvalidRequestError(unknown_name(kind, name, fields.names))
    if name in seen:
        raise InvalidRequestError(f"{kind} {name!r} is given twice")


def _check_complete(images: dict[str, bytes], kind: str, fields: Fields) -> None:
    for name in fields.images:
        if name not in images:
            raise InvalidRequestError(f"{kind} {name!r} is missing")


def decode_image(name: str, value: object, limit: int) -> bytes:
    """Decode base64 or a data URI; `name` is named in errors."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"JSON field {name!r} must be base64 or a data URI")
    text = value
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise InvalidRequestError(f"JSON field {name!r}: the data URI is not base64")
    packed = "".join(text.split())
    # up to two bytes of padding; `check_image` counts exactly
    if len(packed) * 3 // 4 > limit + 2:
        raise ImageTooLargeError(too_many_bytes(limit))
    try:
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImageError(f"{name} is no base64") from error

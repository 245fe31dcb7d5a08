"""Reads request bodies, fields and images, as a form, as JSON or as a raw image."""

import codecs
import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel

from gateway.api.context import context_of, services_of, unknown_name
from gateway.api.fields import decode_image, parse_json, read_fields
from gateway.api.forms import FormParser, Part, PartEnd, decode_text, parse_header
from gateway.api.receiving import IncomingBody
from gateway.collections.image_analysis import NamedImage
from gateway.errors import (
    ImageTooLargeError,
    InvalidRequestError,
    UnsupportedMediaTypeError,
)
from gateway.images import too_many_bytes
from gateway.settings import Settings

_FORM: Final = "multipart/form-data"
_JSON: Final = "application/json"
_MAX_FIELDS_BYTES: Final = 4 * 1024 * 1024
"""Most bytes beside the images; 32 embeddings of 512 numbers have half a megabyte."""
INSTEAD_OF_IMAGES: Final = ("embedding", "embeddings", "space")
"""Fields of requests without an image, so never in the query beside one."""
_MAX_NAME: Final = 200
_URL_NAMES: Final = {"images": "image_urls"}
"""Where the field for a URL is not called like that for the image and `_url`."""
_REPEATED: Final = frozenset({"images", "image_urls"})
"""Fields that a form may have several times, and that are lists in JSON."""
_PLAIN_ENCODINGS: Final = frozenset({"", "binary", "8bit", "7bit"})
In = TypeVar("In", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class BodySpec:
    """The body of a route: fields of a shape, and images.

    images: `none`; `one`: at most one, `image`; `many`: any number, `image` or `images`; or the
    names of required images. Instead of each there may be its URL: `image_url` for `image`,
    `image_urls` for `images`. With `one` and `many` the fields may be in the query, as a body that
    is a raw image has no other place for them.
    """

    shape: type[BaseModel]
    images: Literal["none", "one", "many"] | tuple[str, ...]

    @property
    def required(self) -> tuple[str, ...]:
        """Names of required images."""
        return self.images if isinstance(self.images, tuple) else ()

    @property
    def image_names(self) -> tuple[str, ...]:
        """Names of fields that hold images."""
        if isinstance(self.images, tuple):
            return self.images
        return {"none": (), "one": ("image",), "many": ("image", "images")}[self.images]

    @property
    def url_names(self) -> dict[str, str]:
        """Names of fields that hold URLs of images, each with the name of its image."""
        return {_URL_NAMES.get(name, f"{name}_url"): name for name in self.image_names}

    @property
    def raw_name(self) -> str | None:
        """Name of the image that may be the whole body; None if there is none."""
        names = self.image_names
        return names[0] if names and len(self.required) < 2 else None

    @property
    def query_names(self) -> list[str]:
        """Names of fields that may be in the query: those of requests with an image."""
        if self.images not in ("one", "many"):
            return []
        return [name for name in self.shape.model_fields if name not in INSTEAD_OF_IMAGES]

    @property
    def names(self) -> list[str]:
        """Names of all fields."""
        return [*self.image_names, *self.url_names, *sorted(self.shape.model_fields)]


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that is to be fetched."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Body(Generic[In]):
    """The fields and images of a request; required images are in the order of the spec."""

    fields: In
    sources: tuple[NamedImage | RemoteImage, ...]
    """Images as they were sent: with the work on a request begins that URLs are fetched."""
    given: frozenset[str]
    """Names of the fields that were sent."""

    @property
    def images(self) -> tuple[NamedImage, ...]:
        """The images; all of them once they were fetched."""
        return tuple(each for each in self.sources if isinstance(each, NamedImage))

    def fingerprint(self, route: str) -> str:
        """Digest of the whole request, the same for a form and for JSON."""
        digest = hashlib.sha256(route.encode())
        fields = self.fields.model_dump(mode="json")
        digest.update(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
        for source in self.sources:
            if isinstance(source, RemoteImage):
                digest.update(b"url" + hashlib.sha256(source.url.encode()).digest())
            else:
                digest.update(hashlib.sha256(source.data).digest())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Limits:
    """Bytes of an image, bytes of all images, number of images."""

    image_bytes: int
    all_bytes: int
    images: int


@dataclass(slots=True)
class _Parts:
    """What was read so far: values are from JSON, texts from forms and the query."""

    spec: BodySpec
    limits: _Limits
    values: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    images: list[tuple[str, NamedImage | RemoteImage]] = field(default_factory=list)

    def check(self, name: str, kind: str) -> None:
        """Refuse a field that is unknown or occurs twice."""
        spec = self.spec
        if name not in spec.names:
            raise InvalidRequestError(unknown_name(kind, name, spec.names))
        seen = {*self.values, *self.texts, *(each for each, _ in self.images)} - _REPEATED
        if name in seen:
            many = "; send several images as 'images'" if spec.images == "many" else ""
            more = many if name == "image" else ""
            raise InvalidRequestError(f"{kind} {name!r} is given twice{more}")
        if spec.images == "many":
            return
        for url_name, image_name in spec.url_names.items():
            if {url_name, image_name} <= {name, *seen}:
                raise InvalidRequestError(f"{image_name} and {url_name} are given; send one")

    def add_image(self, name: str, image: NamedImage | RemoteImage) -> None:
        """Add an image; raises if there are too many images or bytes."""
        self.images.append((name, image))
        if len(self.images) > self.limits.images:
            raise InvalidRequestError(f"more than {self.limits.images} images")
        sizes = (len(each.data) for _, each in self.images if isinstance(each, NamedImage))
        if sum(sizes) > self.limits.all_bytes:
            raise ImageTooLargeError(too_many_bytes(self.limits.all_bytes))

    def in_order(self, kind: str) -> tuple[NamedImage | RemoteImage, ...]:
        """Return the images; raises if a required one is missing."""
        if not self.spec.required:
            return tuple(image for _, image in self.images)
        names = self.spec.url_names
        by_name = {names.get(name, name): image for name, image in self.images}
        for name in self.spec.required:
            if name not in by_name:
                raise InvalidRequestError(f"{kind} {name!r} is missing")
        return tuple(by_name[name] for name in self.spec.required)


async def read_body(request: web.Request, spec: BodySpec, shape: type[In]) -> Body[In]:
    """Read the body of a request, and its query if that may contain fields.

    A missing body has no fields. JSON values must have the types of the shape; texts of forms and
    the query are parsed.

    Raises:
        InvalidRequestError: a field is unknown, missing, given twice or of a wrong type.
        UnsupportedMediaTypeError: the content type is none of those above.
        ImageTooLargeError: as soon as too many bytes arrived.
        InvalidImageError: an image is not base64.
        RequestTimeoutError, InferenceUnavailableError: as `IncomingBody`.

    """
    parts = _Parts(spec, _limits(request, spec))
    kind = await _read(request, parts)
    if not spec.required:
        for name, value in request.query.items():
            if name not in spec.query_names:
                raise InvalidRequestError(unknown_name("query parameter", name, spec.query_names))
            parts.check(name, "field")
            parts.texts[name] = value
    images = parts.in_order(kind)
    fields = read_fields(parts.values, parts.texts, shape)
    return Body(fields, images, frozenset({*parts.values, *parts.texts}))


def _limits(request: web.Request, spec: BodySpec) -> _Limits:
    settings = services_of(request).settings
    number = _most_images(settings, spec)
    return _Limits(settings.max_image_bytes, most_bytes(settings, spec), number)


def _most_images(settings: Settings, spec: BodySpec) -> int:
    return settings.max_enrol_images if spec.images == "many" else len(spec.image_names)


def most_bytes(settings: Settings, spec: BodySpec) -> int:
    """Return how many bytes the images of a request may have together."""
    together = settings.max_image_bytes * _most_images(settings, spec)
    if spec.images == "many":
        together = min(together, settings.max_enrol_megabytes << 20)
    return together


async def _read(request: web.Request, parts: _Parts) -> str:
    """Read the body; returns the term for its fields in errors."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise UnsupportedMediaTypeError("send the body without a content encoding")
    kind, parameters = parse_header(request.headers.get("Content-Type", ""))
    spec, limits = parts.spec, parts.limits
    receive = partial(IncomingBody, request, too_many=too_many_bytes(limits.image_bytes))
    if kind.startswith("image/") and spec.raw_name is not None:
        async with receive(most=limits.image_bytes) as body:
            parts.add_image(spec.raw_name, NamedImage(await body.read(), None))
        return "field"
    if not request.can_read_body and not spec.required:
        # an empty body may have any type: curl and aiohttp add one of their own
        return "field"
    most = limits.all_bytes + _MAX_FIELDS_BYTES
    if kind == _JSON:
        # four characters of base64 encode three bytes
        async with receive(most=most * 4 // 3) as body:
            data = await body.read()
        deadline = context_of(request).deadline
        work = partial(_read_json, data, parts)
        await services_of(request).cpu_pool.run(work, deadline=deadline)
        return "JSON field"
    if kind == _FORM and spec.image_names:
        parser = FormParser(parameters.get("boundary", ""))
        async with receive(most=most) as body:
            await _read_form(body, parser, parts)
        return "form field"
    ways = [_FORM, _JSON] if spec.image_names else [_JSON]
    ways += ["image/*"] if spec.raw_name is not None else []
    message = f"content type {kind[:100] or 'missing'}: send {' or '.join(ways)}"
    raise UnsupportedMediaTypeError(message)


def _read_json(body: bytes, parts: _Parts) -> None:
    spec, limit = parts.spec, parts.limits.image_bytes
    text = body.removeprefix(codecs.BOM_UTF8)
    document = parse_json(text) if text.strip() or spec.required else {}
    if not isinstance(document, dict):
        raise InvalidRequestError("the body must be a JSON object")
    for name, value in document.items():
        parts.check(name, "JSON field")
        if name == "images" and name in spec.image_names:
            if not isinstance(value, list) or not value:
                raise InvalidRequestError("JSON field 'images' must be a list of images")
            for each in value:
                parts.add_image(name, NamedImage(decode_image(name, each, limit), None))
        elif name in spec.image_names:
            parts.add_image(name, NamedImage(decode_image(name, value, limit), None))
        elif name in spec.url_names:
            _add_urls(name, value, parts)
        else:
            parts.values[name] = value


def _add_urls(name: str, value: object, parts: _Parts) -> None:
    urls = value if name in _REPEATED else [value]
    if not isinstance(urls, list) or not urls or not all(isinstance(each, str) for each in urls):
        kind = "a list of URLs" if name in _REPEATED else "a URL"
        raise InvalidRequestError(f"JSON field {name!r} must be {kind}")
    for url in urls:
        parts.add_image(name, RemoteImage(url))


async def _read_form(body: IncomingBody, parser: FormParser, parts: _Parts) -> None:
    part, data = None, bytearray()
    size = 0
    async for piece in body:
        for event in parser.feed(piece):
            if isinstance(event, Part):
                _check_part(event, parts)
                part, data = event, bytearray()
            elif part is None:
                continue
            elif isinstance(event, PartEnd):
                _add_part(part, bytes(data), parts)
            elif part.name in parts.spec.image_names:
                data += event
                if len(data) > parts.limits.image_bytes:
                    raise ImageTooLargeError(too_many_bytes(parts.limits.image_bytes))
            else:
                data += event
                size += len(event)
                if size > _MAX_FIELDS_BYTES:
                    raise InvalidRequestError(f"form field {part.name[:100]!r} is too long")
    parser.finish()


def _check_part(part: Part, parts: _Parts) -> None:
    if part.content_type.startswith("multipart/"):
        raise InvalidRequestError("a form field cannot contain another form")
    parts.check(part.name, "form field")
    if part.transfer_encoding not in _PLAIN_ENCODINGS:
        raise InvalidRequestError(f"form field {part.name!r}: send its bytes without an encoding")


def _add_part(part: Part, data: bytes, parts: _Parts) -> None:
    if part.name in parts.spec.image_names:
        file_name = part.file_name[:_MAX_NAME] if part.file_name else None
        parts.add_image(part.name, NamedImage(data, file_name))
        return
    try:
        text = decode_text(data, part.charset, "strict")
    except UnicodeDecodeError as error:
        message = f"form field {part.name!r} is not text in {part.charset[:40]!r}"
        raise InvalidRequestError(message) from error
    if part.name in parts.spec.url_names:
        parts.add_image(part.name, RemoteImage(text))
    else:
        parts.texts[part.name] = text

"""A request to the service: built once, sent as often as needed."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Generic, Optional, TypeVar, Union
from urllib.parse import quote

import httpx

from aurum_client.images import Picture
from aurum_client.results.base import read
from aurum_client.uploads import Upload

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
Option = Union[str, float, Mapping[str, Any], Sequence[Any], None]
"""Value of a query parameter or form field; None leaves it out."""


@dataclass(frozen=True)
class Request(Generic[T_co]):
    """Everything that each attempt sends, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T_co]
    """Reads a good answer; raises ValueError for one that it does not understand."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `httpx.Client.build_request`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_read_only: bool = False
    """Whether it changes nothing, although it is no GET."""
    idempotency_key: Optional[str] = None
    accepted: tuple[int, ...] = ()
    """Statuses beyond 2xx whose answers are good."""
    upload: Optional[Upload] = None
    """A body that is read from the disk, anew for each attempt; instead of `body`."""

    @property
    def repeatable(self) -> bool:
        """Whether the service may get it twice."""
        return self.is_read_only or self.method == "GET" or self.idempotency_key is not None

    @property
    def sent_once(self) -> bool:
        """Whether there can be no second attempt, as the body comes from a pipe."""
        return self.upload is not None and self.upload.single_use

    def build(
        self,
        http: Union[httpx.Client, httpx.AsyncClient],
        timeout: httpx.Timeout,
        content: Union[Iterator[bytes], AsyncIterator[bytes], None] = None,
    ) -> httpx.Request:
        """Build one attempt; content: of the upload, if there is one."""
        headers = dict(self.headers)
        if self.upload is not None:
            headers.update(self.upload.headers)
        if self.idempotency_key is not None:
            headers["Idempotency-Key"] = self.idempotency_key
        built = http.build_request(
            self.method,
            self.path,
            params=self.query,
            headers=headers,
            timeout=timeout,
            **({"content": content} if content is not None else self.body),
        )
        if content is None:
            # a form in one piece: each piece would be sent, and wake the service up, by itself
            built.read()
        return built


def bearer(api_key: str) -> Mapping[str, str]:
    """Write the header with a key; raises ValueError, which does not quote it."""
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("api_key is neither an API key nor a token")
    return {"Authorization": f"Bearer {key}"}


def new_key() -> str:
    """Make an `Idempotency-Key`."""
    return uuid.uuid4().hex


def path_of(*segments: str) -> str:
    """Join the segments of a path below `/api`; raises ValueError for an empty one."""
    return "/".join(("/api", *map(_segment, segments)))


def _segment(text: str) -> str:
    if not text:
        raise ValueError("names and ids are not empty")
    # a segment of dots would lead to another resource
    return text.replace(".", "%2E") if text.strip(".") == "" else quote(text, safe="")


def as_json(kind: Callable[..., T]) -> Callable[[httpx.Response], T]:
    """Read answers as this dataclass."""

    def read_response(response: httpx.Response) -> T:
        document = response.json()
        return read(kind, document)

    return read_response


def texts_of(options: Mapping[str, Option]) -> Mapping[str, str]:
    """Write options as texts of a query or form; objects become JSON, a None is left out."""
    return {name: _text(value) for name, value in options.items() if value is not None}


def _text(value: Option) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value)
    return str(value)


def raw_body(picture: Picture) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Send an image as the whole body, or its URL as JSON; returns body and headers."""
    if picture.url is not None:
        return {"json": {"image_url": picture.url}}, {}
    return {"content": picture.data}, {"Content-Type": picture.media_type}


def form_body(
    images: Sequence[tuple[str, Picture]], fields: Mapping[str, Option]
) -> Mapping[str, Any]:
    """Send named images and fields as a form."""
    files = [_form_file(name, picture) for name, picture in images]
    return {"files": files, "data": dict(texts_of(fields))}


def _form_file(name: str, picture: Picture) -> tuple[str, Any]:
    if picture.url is None:
        return name, (picture.name or name, picture.data, picture.media_type)
    # without a file name: a field
    return ("image_urls" if name == "images" else f"{name}_url"), (None, picture.url.encode())

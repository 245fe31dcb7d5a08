"""Reads the body of a new job as it arrives: a form, JSON, or an archive.

It holds the image that is arriving, and passes on each one that is complete.
"""

import asyncio
import codecs
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import IO, Any, Final

from aiohttp import web

from gateway.api.body import RemoteImage
from gateway.api.context import unknown_name
from gateway.api.fields import decode_image, parse_json
from gateway.api.forms import FormParser, Part, PartEnd, parse_header
from gateway.api.receiving import IncomingBody
from gateway.archives.reader import ARCHIVE_HEAD_BYTES, is_archive, is_other_archive
from gateway.errors import (
    ImageTooLargeError,
    InvalidImageError,
    InvalidRequestError,
    UnsupportedMediaTypeError,
)
from gateway.jobs.upload_limits import too_many_megabytes
from gateway.jobs.uploads import Upload, Uploads
from gateway.json_limits import JsonBounds
from gateway.outbound.urls import MAX_URL_CHARACTERS

FORM: Final = "multipart/form-data"
JSON: Final = "application/json"
ARCHIVES: Final = frozenset(
    {
        "application/zip",
        "application/x-zip-compressed",
        "application/x-tar",
        "application/gzip",
        "application/x-gzip",
        "application/x-compressed-tar",
        "application/x-gtar-compressed",
    }
)
_FIELD: Final = "images"
_MAX_JSON_BYTES: Final = 64 << 20
"""Largest sum of images in JSON, which is in memory as a whole."""
_HEADS_BYTES: Final = 2048
"""Room in a body for the head of a part, or for the name of an image, beside the image."""
_BLOCK: Final = 1 << 20
_CHECKED_EVERY: Final = 16 << 20
"""Bytes after which the free space of the disk is looked at again."""
_PLAIN_ENCODINGS: Final = frozenset({"", "binary", "8bit", "7bit"})
_URL_FIELD: Final = "image_url"
_MAX_URL_BYTES: Final = 4 * MAX_URL_CHARACTERS
_ELEMENT: Final = ("image", _URL_FIELD, "name")
_NO_ARCHIVE: Final = "is not a ZIP, tar or tar.gz file"
_OTHER_ARCHIVE: Final = "is an archive of another kind than ZIP, tar and tar.gz"


async def check_head(request: web.Request, uploads: Uploads) -> None:
    """Refuse a body by its headers, before any byte of it is read.

    Raises:
        UnsupportedMediaTypeError: a media type or an encoding that is not read.
        InvalidRequestError: there is no body.
        ImageTooLargeError: it is announced to be too large.
        InsufficientStorageError: the disk has no room for it.

    """
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise UnsupportedMediaTypeError("send the body without a content encoding")
    kind = _kind(request)
    if kind not in ARCHIVES | {FORM, JSON}:
        message = (
            f"content type {kind[:100] or 'missing'}: send {FORM}, {JSON}, application/zip, "
            "application/x-tar or application/gzip"
        )
        raise UnsupportedMediaTypeError(message)
    if not request.can_read_body:
        raise InvalidRequestError("the body is empty; send images")
    announced = request.content_length or 0
    if announced > _most_bytes(kind, uploads):
        raise ImageTooLargeError(_too_many(kind, uploads))
    needs_disk = uploads.is_local or kind in ARCHIVES
    await uploads.check_space(announced if needs_disk else 0)


async def receive_images(request: web.Request, uploads: Uploads, upload: Upload) -> None:
    """Read the body and add its images; raises as `IncomingBody`, `FormParser` and `Upload`."""
    kind, parameters = parse_header(request.headers.get("Content-Type", ""))
    parser = FormParser(parameters.get("boundary", "")) if kind == FORM else None
    body = IncomingBody(
        request,
        most=_most_bytes(kind, uploads),
        too_many=_too_many(kind, uploads),
        is_upload=True,
    )
    if parser is not None:
        async with body, AsyncExitStack() as files:
            await _read_form(body, parser, _Files(body, uploads, upload, files))
    elif kind == JSON:
        async with body:
            data = await body.read()
            await _read_json(data, uploads, upload)
    else:
        async with uploads.scratch_file() as file:
            async with body:
                await _spool(body, file, uploads)
            await _add_archive(file, None, upload)


def _kind(request: web.Request) -> str:
    return parse_header(request.headers.get("Content-Type", ""))[0]


def _most_bytes(kind: str, uploads: Uploads) -> int:
    limits = uploads.limits
    heads = limits.images * _HEADS_BYTES
    if kind == JSON:
        # four characters of base64 encode three bytes
        return min(limits.total_bytes, _MAX_JSON_BYTES) * 4 // 3 + min(heads, _MAX_JSON_BYTES)
    return limits.total_bytes + (heads if kind == FORM else 0)


def _too_many(kind: str, uploads: Uploads) -> str:
    total = uploads.limits.total_bytes
    if kind == JSON and total > _MAX_JSON_BYTES:
        megabytes = _MAX_JSON_BYTES >> 20
        return f"images in JSON may have {megabytes} megabytes at most; send a form or an archive"
    return too_many_megabytes(total)


async def _spool(pieces: IncomingBody, file: IO[bytes], uploads: Uploads) -> None:
    writer = _Writer(file, uploads)
    async for piece in pieces:
        await writer.write(piece)
        pieces.hand_on(len(piece))
    await writer.flush()


class _Writer:
    """Writes blocks to a scratch file, as long as the disk has room."""

    def __init__(self, file: IO[bytes], uploads: Uploads) -> None:
        self._file = file
        self._uploads = uploads
        self._block = bytearray()
        self._unchecked = _CHECKED_EVERY

    async def write(self, data: bytes) -> None:
        """Write on; raises InsufficientStorageError."""
        self._block += data
        if len(self._block) >= _BLOCK:
            await self.flush()

    async def flush(self) -> None:
        """Write what was collected."""
        block, self._block = bytes(self._block), bytearray()
        self._unchecked += len(block)
        if self._unchecked >= _CHECKED_EVERY:
            self._unchecked = 0
            await self._uploads.check_space(len(block))
        await asyncio.to_thread(self._file.write, block)


async def _add_archive(file: IO[bytes], name: str | None, upload: Upload) -> None:
    head = await asyncio.to_thread(_read_head, file)
    if not is_archive(head):
        what = "the body" if name is None else repr(name[:200])
        reason = _OTHER_ARCHIVE if is_other_archive(head) else _NO_ARCHIVE
        raise UnsupportedMediaTypeError(f"{what} {reason}")
    await upload.add_archive(file, name)


def _read_head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(ARCHIVE_HEAD_BYTES)


async def _read_form(body: IncomingBody, parser: FormParser, files: "_Files") -> None:
    async for piece in body:
        for event in parser.feed(piece):
            if isinstance(event, Part):
                _check_part(event)
                files.begin(event.file_name, is_url=event.name == _URL_FIELD)
            elif isinstance(event, PartEnd):
                await files.end()
            else:
                await files.add(event)
    parser.finish()


def _check_part(part: Part) -> None:
    if part.name not in (_FIELD, _URL_FIELD):
        message = unknown_name("form field", part.name, [_FIELD, _URL_FIELD])
        raise InvalidRequestError(f"{message}; options belong in the query")
    if part.content_type.startswith("multipart/"):
        raise InvalidRequestError("a form field cannot contain another form")
    if part.transfer_encoding not in _PLAIN_ENCODINGS:
        raise InvalidRequestError(f"form field {part.name!r}: send its bytes without an encoding")


class _Files:
    """The files of a form, one after the other: images, and archives by their first bytes."""

    def __init__(
        self, body: IncomingBody, uploads: Uploads, upload: Upload, files: AsyncExitStack
    ) -> None:
        self._body = body
        self._uploads = uploads
        self._upload = upload
        self._files = files
        self._name: str | None = None
        self._data = bytearray()
        self._is_known = False
        self._is_dropped = False
        self._is_url = False
        self._archive: IO[bytes] | None = None
        self._writer: _Writer | None = None

    def begin(self, name: str | None, *, is_url: bool) -> None:
        """Begin with the next file, or with the URL of one."""
        self._name = name
        self._is_url = is_url
        self._data = bytearray()
        self._is_known = self._is_dropped = False
        self._archive = self._writer = None

    async def add(self, data: bytes) -> None:
        """Take more of its bytes."""
        if self._writer is not None:
            await self._writer.write(data)
            self._body.hand_on(len(data))
            return
        if self._is_dropped:
            self._body.hand_on(len(data))
            return
        self._data += data
        if self._is_url:
            if len(self._data) > _MAX_URL_BYTES:
                raise InvalidRequestError(f"form field {_URL_FIELD!r} is too long")
            return
        if not self._is_known and len(self._data) >= ARCHIVE_HEAD_BYTES:
            await self._decide()
        if self._writer is None and len(self._data) > self._upload.max_image_bytes:
            self._is_dropped = True
            self._body.hand_on(len(self._data))
            self._data = bytearray()

    async def end(self) -> None:
        """Pass the complete file on."""
        if self._is_url:
            await self._end_url()
            return
        if not self._is_known:
            await self._decide()
        if self._archive is not None and self._writer is not None:
            await self._writer.flush()
            await _add_archive(self._archive, self._name or "archive", self._upload)
            await self._files.aclose()
        elif self._is_dropped:
            await self._upload.add_too_large(self._name)
        else:
            data, self._data = bytes(self._data), bytearray()
            await self._upload.add_image(self._name, data)
            self._body.hand_on(len(data))

    async def _end_url(self) -> None:
        try:
            url = self._data.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"form field {_URL_FIELD!r} is not UTF-8") from error
        self._body.hand_on(len(self._data))
        await self._upload.add_url(self._name, url)

    async def _decide(self) -> None:
        """Tell an archive from an image."""
        self._is_known = True
        head = bytes(self._data[:ARCHIVE_HEAD_BYTES])
        if is_other_archive(head):
            name = (self._name or "a file")[:200]
            raise UnsupportedMediaTypeError(f"{name!r} {_OTHER_ARCHIVE}")
        if not is_archive(head):
            return
        self._archive = await self._files.enter_async_context(self._uploads.scratch_file())
        self._writer = _Writer(self._archive, self._uploads)
        await self._writer.write(bytes(self._data))
        self._body.hand_on(len(self._data))
        self._data = bytearray()


async def _read_json(data: bytes, uploads: Uploads, upload: Upload) -> None:
    images = await asyncio.to_thread(_parse_list, data, uploads.limits.images)
    async for index, value in _taken(images):
        name, image = _name_and_image(index, value)
        if isinstance(image, RemoteImage):
            await upload.add_url(name, image.url)
            continue
        decode = partial(decode_image, f"{_FIELD}[{index}]", image, upload.max_image_bytes)
        try:
            decoded = await asyncio.to_thread(decode)
        except (ImageTooLargeError, InvalidImageError) as error:
            await upload.add_refused(name, error)
        else:
            await upload.add_image(name, decoded)


async def _taken(images: list[Any]) -> AsyncIterator[tuple[int, Any]]:
    """Yield the elements of a list and empty it, so that memory is freed on the way."""
    images.reverse()
    for index in range(len(images)):
        yield index, images.pop()


def _parse_list(data: bytes, most: int) -> list[Any]:
    bounds = JsonBounds(depth=4, objects=most + 1, texts=4 * most + 16, commas=2 * most + 16)
    document = parse_json(data.removeprefix(codecs.BOM_UTF8), bounds=bounds)
    if not isinstance(document, dict):
        raise InvalidRequestError("the body must be a JSON object")
    for name in document:
        if name != _FIELD:
            message = unknown_name("JSON field", name, [_FIELD])
            raise InvalidRequestError(f"{message}; options belong in the query")
    images = document.get(_FIELD)
    if not isinstance(images, list) or not images:
        raise InvalidRequestError("JSON field 'images' must be a list of images")
    return images


def _name_and_image(index: int, value: object) -> tuple[str | None, object]:
    """Return the name of an element, and its base64 or a `RemoteImage`."""
    where = f"JSON field 'images[{index}]'"
    if not isinstance(value, dict):
        return None, value
    for name in value:
        if name not in _ELEMENT:
            raise InvalidRequestError(f"{where}: {unknown_name('field', name, list(_ELEMENT))}")
    if not ("image" in value or _URL_FIELD in value):
        raise InvalidRequestError(f"{where}: 'image' is missing")
    if "image" in value and _URL_FIELD in value:
        raise InvalidRequestError(f"{where}: image and {_URL_FIELD} are given; send one")
    name = value.get("name")
    if name is not None and (not isinstance(name, str) or len(name) > 1000):
        raise InvalidRequestError(f"{where}: 'name' must be a string of 1000 characters at most")
    if "image" in value:
        return name, value["image"]
    url = value[_URL_FIELD]
    if not isinstance(url, str):
        raise InvalidRequestError(f"{where}: {_URL_FIELD!r} must be a URL")
    return name, RemoteImage(url)

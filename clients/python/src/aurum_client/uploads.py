"""Bodies of uploads of many images: read from the disk piece by piece, as often as needed."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, Optional, Union
from urllib.parse import quote

from aurum_client.images import ImageSource, ImageUrl

_CHUNK = 1 << 20
_HEAD = 512
_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp"})
_ARCHIVES = ((b"PK\x03\x04", "application/zip"), (b"\x1f\x8b", "application/gzip"))
_PLAIN_NAME = re.compile(r"[\w /.()+=,-]+", re.ASCII)
_TAR_MAGIC = (257, b"ustar")

Progress = Callable[[int, Optional[int]], None]
"""Called with the bytes sent so far and the total, None if that is unknown; begins anew with a
further attempt."""


@dataclass(frozen=True)
class NamedImage:
    """An image with the name that its result will show, such as a path within a folder."""

    name: str
    image: ImageSource


UploadSource = Union[ImageSource, NamedImage]
"""An image or an archive (ZIP, tar, tar.gz): a path, bytes, a binary file, or an `ImageUrl`; or a
`NamedImage`."""


def images_in(folder: Union[str, os.PathLike[str]]) -> Iterator[NamedImage]:
    """Find the images below a folder, sorted, named by their paths within it.

    Hidden files and folders are left out. Raises NotADirectoryError.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"not a folder: {root}")
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in _SUFFIXES and not name.startswith("."):
                yield NamedImage(path.relative_to(root).as_posix(), path)


class _Part:
    """One file of an upload."""

    def __init__(self, source: UploadSource) -> None:
        name = None
        if isinstance(source, NamedImage):
            name, source = source.name, source.image
        self.is_url = isinstance(source, ImageUrl)
        self._path: Optional[Path] = None
        self._file: Optional[BinaryIO] = None
        self._start = 0
        self.size: Optional[int] = None
        self.single_use = False
        if isinstance(source, ImageUrl):
            self._data: Optional[bytes] = source.url.encode()
            self.size = len(self._data)
            # without a name the service makes one of the URL
            self.name = name or ""
            return
        if isinstance(source, (bytes, bytearray, memoryview)):
            self._data = bytes(source)
            self.size = len(self._data)
        elif isinstance(source, (str, os.PathLike)):
            self._data = None
            self._path = Path(source)
            self.size = self._path.stat().st_size
            name = name or self._path.name
        elif hasattr(source, "read"):
            self._data = None
            self._file = source
            self._measure(source)
            found = getattr(source, "name", None)
            name = name or (os.path.basename(found) if isinstance(found, str) else None)
        else:
            kind = type(source).__name__
            raise TypeError(f"an image is a path, bytes or a binary file, not {kind}")
        self.name = name or "image"

    def _measure(self, file: BinaryIO) -> None:
        try:
            self._start = file.tell()
            self.size = file.seek(0, os.SEEK_END) - self._start
            file.seek(self._start)
        except (OSError, AttributeError):
            # a pipe: its size is not known, and it can be sent once
            self.single_use = True

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open a path, or go back to the start of a file."""
        if self._path is not None:
            with self._path.open("rb") as file:
                yield file
        elif self._file is not None:
            if not self.single_use:
                self._file.seek(self._start)
            yield self._file

    def head(self) -> bytes:
        """Return the first bytes; empty for a file that can be read only once."""
        if self._data is not None:
            return self._data[:_HEAD]
        if self.single_use:
            return b""
        with self.opened() as file:
            return file.read(_HEAD)

    def chunks(self) -> Iterator[bytes]:
        """Read the file; raises OSError if its size is not the one announced."""
        if self._data is not None:
            yield self._data
            return
        sent = 0
        with self.opened() as file:
            while chunk := file.read(_CHUNK):
                if not isinstance(chunk, bytes):
                    raise TypeError("open the image in binary mode")
                sent += len(chunk)
                if self.size is not None and sent > self.size:
                    break
                yield chunk
        if self.size is not None and sent != self.size:
            raise OSError(f"{self.name} changed while it was sent")


@dataclass(frozen=True)
class Upload:
    """The body of a request, read anew for each attempt."""

    parts: tuple[_Part, ...]
    media_type: str
    boundary: Optional[str]
    """Of a form; None for an archive that is the whole body."""
    progress: Optional[Progress] = None

    @property
    def single_use(self) -> bool:
        """Whether it can be sent only once, as it comes from a pipe."""
        return any(part.single_use for part in self.parts)

    @property
    def headers(self) -> dict[str, str]:
        """Media type, and length if it is known."""
        found = {"Content-Type": self.media_type}
        sizes = [part.size for part in self.parts]
        total = 0
        for part, size in zip(self.parts, sizes):
            if size is None:
                return found
            total += size
            if self.boundary is not None:
                total += len(self._opening(part)) + 2
        if self.boundary is not None:
            total += len(self._closing())
        found["Content-Length"] = str(total)
        return found

    def chunks(self) -> Iterator[bytes]:
        """Read the body and report the progress; raises OSError."""
        length = self.headers.get("Content-Length")
        total = None if length is None else int(length)
        sent = 0
        for chunk in self._body():
            yield chunk
            # whoever takes the next piece has sent this one
            sent += len(chunk)
            if self.progress is not None:
                self.progress(sent, total)

    def _body(self) -> Iterator[bytes]:
        if self.boundary is None:
            yield from self.parts[0].chunks()
            return
        for part in self.parts:
            yield self._opening(part)
            yield from part.chunks()
            yield b"\r\n"
        yield self._closing()

    def _opening(self, part: _Part) -> bytes:
        field = "image_url" if part.is_url else "images"
        if not part.name:
            name = ""
        elif _PLAIN_NAME.fullmatch(part.name):
            name = f'; filename="{part.name}"'
        else:
            name = f"; filename*=UTF-8''{quote(part.name, safe='', errors='replace')}"
        return (
            f"--{self.boundary}\r\n"
            f'Content-Disposition: form-data; name="{field}"{name}\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()

    def _closing(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


def make_upload(
    images: Union[UploadSource, Iterable[UploadSource]], progress: Optional[Progress] = None
) -> Upload:
    """Prepare an upload: a single archive is sent as it is, everything else as a form.

    Raises:
        OSError: a file cannot be read.
        TypeError: a source is none of `UploadSource`.
        ValueError: there is no image.

    """
    if isinstance(images, (str, os.PathLike)) and Path(images).is_dir():
        sources: list[UploadSource] = list(images_in(images))
    elif _is_one(images):
        sources = [images]  # type: ignore[list-item]
    else:
        sources = list(images)  # type: ignore[arg-type]
    if not sources:
        raise ValueError("there are no images to upload")
    parts = tuple(_Part(each) for each in sources)
    if len(parts) == 1:
        media_type = _archive_type(parts[0].head())
        if media_type is not None:
            return Upload(parts, media_type, None, progress)
    boundary = uuid.uuid4().hex
    return Upload(parts, f"multipart/form-data; boundary={boundary}", boundary, progress)


def _is_one(images: object) -> bool:
    return isinstance(
        images, (str, os.PathLike, bytes, bytearray, memoryview, NamedImage, ImageUrl)
    ) or hasattr(images, "read")


def _archive_type(head: bytes) -> Optional[str]:
    for signature, media_type in _ARCHIVES:
        if head.startswith(signature):
            return media_type
    at, magic = _TAR_MAGIC
    return "application/x-tar" if head[at : at + len(magic)] == magic else None

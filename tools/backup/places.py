"""Where archives lie: in a folder or in a bucket. An archive appears when it is complete."""

import asyncio
import fcntl
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway.durable_files import sync_path
from gateway.errors import ConfigurationError
from gateway.jobs.objects.s3 import open_store
from gateway.settings import Settings
from tools.backup.errors import BackupError
from tools.backup.sealed_stream import Sink, Source

_NAME: Final = re.compile(r"aurum-\d{8}T\d{6}Z-[0-9a-f]{4}\.backup")
_PARTIAL: Final = ".partial"
_PART_BYTES: Final = 16 << 20
"""Of an upload, one part after the other; S3 takes 10,000 of them, 156 GiB."""
_BUCKET: Final = "s3://"


@dataclass(frozen=True, slots=True)
class Stored:
    """An archive; size in bytes."""

    name: str
    size: int


class Place(Protocol):
    """A folder or a bucket; methods raise BackupError when it cannot be used."""

    async def archives(self) -> Sequence[Stored]:
        """Return complete archives, oldest first."""

    def writing(self, name: str) -> AbstractAsyncContextManager[Sink]:
        """Open a new archive; it appears at the end of the block, unless that raises."""

    async def reader(self, name: str) -> Source:
        """Open an archive from its first byte."""

    async def delete(self, name: str) -> None:
        """Remove an archive."""


class FolderPlace:
    """A `Place` in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def archives(self) -> Sequence[Stored]:
        """See `Place.archives`."""
        with _named(self._folder):
            if not self._folder.is_dir():
                return ()
            found = [each for each in self._folder.iterdir() if _NAME.fullmatch(each.name)]
            return [Stored(each.name, each.stat().st_size) for each in sorted(found)]

    @asynccontextmanager
    async def writing(self, name: str) -> AsyncIterator[Sink]:
        """See `Place.writing`; what killed backups left behind is removed."""
        with _named(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for rest in self._folder.glob(f".aurum-*{_PARTIAL}"):
                _remove_abandoned(rest)
            temporary = self._folder / f".{name}{_PARTIAL}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                # held while it is written, so that nobody takes it for abandoned
                fcntl.flock(file, fcntl.LOCK_EX)
                yield _FileSink(self._folder, file)
                with _named(self._folder):
                    file.flush()
                    os.fsync(file.fileno())
                    temporary.replace(self._folder / name)
                    sync_path(self._folder)
        finally:
            temporary.unlink(missing_ok=True)

    async def reader(self, name: str) -> Source:
        """See `Place.reader`."""
        with _named(self._folder / name):
            return _FileSource(self._folder, (self._folder / name).open("rb"))

    async def delete(self, name: str) -> None:
        """See `Place.delete`."""
        with _named(self._folder):
            (self._folder / name).unlink(missing_ok=True)


class _FileSink:
    def __init__(self, folder: Path, file: IO[bytes]) -> None:
        self._folder = folder
        self._file = file

    async def write(self, data: bytes) -> None:
        with _named(self._folder):
            await asyncio.to_thread(self._file.write, data)


class _FileSource:
    def __init__(self, folder: Path, file: IO[bytes]) -> None:
        self._folder = folder
        self._file = file

    async def read(self, size: int) -> bytes:
        with _named(self._folder):
            return await asyncio.to_thread(self._file.read, size)


class BucketPlace:
    """A `Place` in an S3 bucket, with endpoint and credentials of `AURUM_OBJECT_STORE_…`."""

    def __init__(self, store: S3Store, *, timeout_seconds: float) -> None:
        self._store = store
        self._timeout_seconds = timeout_seconds

    async def archives(self) -> Sequence[Stored]:
        """See `Place.archives`."""
        found: list[Stored] = []
        with _bucket():
            pages = obstore.list(self._store)
            while True:
                async with asyncio.timeout(self._timeout_seconds):
                    page = await anext(pages, None)
                if page is None:
                    return sorted(found, key=lambda each: each.name)
                found += [
                    Stored(each["path"], each["size"])
                    for each in page
                    if _NAME.fullmatch(each["path"])
                ]

    @asynccontextmanager
    async def writing(self, name: str) -> AsyncIterator[Sink]:
        """See `Place.writing`: a multipart upload, which the bucket shows when it is complete."""
        # not as a context manager: that would complete the object whatever happened
        writer = obstore.open_writer_async(
            self._store, name, buffer_size=_PART_BYTES, max_concurrency=1
        )
        yield _BucketSink(writer)
        with _bucket():
            await writer.close()

    async def reader(self, name: str) -> Source:
        """See `Place.reader`."""
        with _bucket():
            async with asyncio.timeout(self._timeout_seconds):
                found = await obstore.head_async(self._store, name)
        return _BucketSource(self._store, name, found["size"])

    async def delete(self, name: str) -> None:
        """See `Place.delete`."""
        with _bucket():
            async with asyncio.timeout(self._timeout_seconds):
                await obstore.delete_async(self._store, name)


class _BucketSink:
    def __init__(self, writer: "obstore.AsyncWritableFile") -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        with _bucket():
            await self._writer.write(data)


class _BucketSource:
    """Reads an object in parts: each request has a time limit, not the whole object."""

    def __init__(self, store: S3Store, name: str, size: int) -> None:
        self._store = store
        self._name = name
        self._size = size
        self._position = 0
        self._waiting = bytearray()

    async def read(self, size: int) -> bytes:
        while len(self._waiting) < size and self._position < self._size:
            end = min(self._position + _PART_BYTES, self._size)
            with _bucket():
                part = await obstore.get_range_async(
                    self._store, self._name, start=self._position, end=end
                )
            self._waiting += bytes(part)
            self._position = end
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        return data


def open_place(settings: Settings, text: str) -> Place:
    """Open `s3://bucket/prefix` or a folder; raises BackupError. Nothing is connected to yet."""
    if not text.startswith(_BUCKET):
        if "://" in text:
            scheme = text.partition("://")[0]
            raise BackupError(f"{scheme}:// is not supported; use s3://… or a folder")
        return FolderPlace(Path(text).expanduser().resolve())
    try:
        store = open_store(settings, text, "the place of backups")
    except ConfigurationError as error:
        raise BackupError(str(error)) from error
    return BucketPlace(store, timeout_seconds=settings.object_store_timeout_seconds)


async def choose(place: Place, name: str | None) -> str:
    """Return the name of an archive that exists, the latest one by default."""
    names = [each.name for each in await place.archives()]
    if not names:
        raise BackupError("there are no backups here")
    if name is None:
        return names[-1]
    if name not in names:
        raise BackupError(f"there is no backup {name[:100]!r} here; the latest is {names[-1]}")
    return name


def _remove_abandoned(rest: Path) -> None:
    with rest.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        rest.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which path cannot be used, and why."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _bucket() -> Iterator[None]:
    """Translate errors, whose text has the address, and maybe more."""
    try:
        yield
    except FileNotFoundError:
        raise BackupError("the bucket does not exist, or the archive is gone") from None
    except (BaseError, OSError, ValueError) as error:
        # TimeoutError is an OSError
        message = (
            f"the bucket failed ({type(error).__name__}): is there one of this name, and may the "
            "key of AURUM_OBJECT_STORE_… use it?"
        )
        raise BackupError(message) from None

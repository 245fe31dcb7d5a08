"""Objects as files of a folder that only the owner can read, one folder a job."""

import asyncio
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final, TypeVar

from gateway.durable_files import sync_path
from gateway.errors import InsufficientStorageError, JobsUnavailableError
from gateway.jobs.objects.base import ObjectMissingError, check_job_id, is_key, job_of

T = TypeVar("T")

_RETRY_AFTER_SECONDS: Final = 5
_TEMPORARY: Final = ".part"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class FolderObjects:
    """An `ObjectStore` in a folder.

    A file appears whole or not at all. Its bytes are on the disk when `put` returns; its name is
    when `flush` returns, so that a job of many images waits for the folder once.
    """

    def __init__(self, folder: Path, *, min_free_bytes: int) -> None:
        """Use `folder`; refuse new objects when less than `min_free_bytes` of its disk are free."""
        self._folder = folder
        self._min_free_bytes = min_free_bytes

    async def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore.put`."""
        job_of(key)
        await _in_thread(lambda: self._write(self._folder / key, data))

    async def flush(self, job_id: str) -> None:
        """See `ObjectStore.flush`."""
        folder = self._folder / check_job_id(job_id)
        await _in_thread(lambda: _sync_folders(folder, self._folder))

    async def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        job_of(key)
        try:
            return await _in_thread((self._folder / key).read_bytes)
        except FileNotFoundError:
            raise ObjectMissingError(key) from None

    async def start(self, key: str, size: int) -> bytes:
        """See `ObjectStore.start`."""
        job_of(key)

        def read() -> bytes:
            with (self._folder / key).open("rb") as file:
                return file.read(size)

        try:
            return await _in_thread(read)
        except FileNotFoundError:
            raise ObjectMissingError(key) from None

    async def keys(self, job_id: str) -> Collection[str]:
        """See `ObjectStore.keys`."""
        folder = self._folder / check_job_id(job_id)

        def names() -> list[str]:
            if not folder.is_dir():
                return []
            found = (f"{job_id}/{each.name}" for each in folder.iterdir())
            return sorted(key for key in found if is_key(key))

        return await _in_thread(names)

    async def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        files = [self._folder / key for key in keys if job_of(key)]

        def remove() -> None:
            for file in files:
                file.unlink(missing_ok=True)

        await _in_thread(remove)

    async def delete_job(self, job_id: str) -> None:
        """See `ObjectStore.delete_job`."""
        folder = self._folder / check_job_id(job_id)

        def remove() -> None:
            if folder.is_dir():
                shutil.rmtree(folder)

        await _in_thread(remove)

    async def jobs(self) -> Collection[str]:
        """See `ObjectStore.jobs`."""

        def names() -> list[str]:
            if not self._folder.is_dir():
                return []
            return sorted(each.name for each in self._folder.iterdir() if each.is_dir())

        return await _in_thread(names)

    async def health(self) -> None:
        """See `ObjectStore.health`."""
        await _in_thread(lambda: self._make(self._folder))

    async def close(self) -> None:
        """See `ObjectStore.close`."""

    def _write(self, file: Path, data: bytes) -> None:
        self._make(file.parent)
        check_free_space(self._folder, self._min_free_bytes, more_bytes=len(data))
        temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}{_TEMPORARY}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _make(self, folder: Path) -> None:
        # one after the other: the mode is for the last folder only
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)


def check_free_space(folder: Path, min_free_bytes: int, *, more_bytes: int = 0) -> None:
    """Raise InsufficientStorageError if fewer bytes would be free after writing `more_bytes`.

    The folder, or one above it, exists.
    """
    while not folder.exists():
        folder = folder.parent
    if shutil.disk_usage(folder).free - more_bytes < min_free_bytes:
        raise InsufficientStorageError("the disk is nearly full; no images are accepted")


def _sync_folders(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir():
            sync_path(folder)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run work on files; a disk that fails makes the store unavailable, a full one refuses."""
    try:
        return await asyncio.to_thread(work)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorageError("the disk is full; no images are accepted") from error
        raise JobsUnavailableError(
            "the folder of uploaded images cannot be used", retry_after_seconds=_RETRY_AFTER_SECONDS
        ) from error

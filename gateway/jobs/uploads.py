"""Receives the images of a job: checks, seals and stores each of them, then submits the job."""

import asyncio
import hashlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import orjson

from gateway.archives.types import ImageMember, OtherMember
from gateway.collections.names import subject_in
from gateway.concurrency import BackgroundTasks
from gateway.errors import (
    AurumError,
    ConflictError,
    ImageTooLargeError,
    InferenceUnavailableError,
    InvalidRequestError,
)
from gateway.images import ImageLimits, check_image, too_many_bytes
from gateway.jobs.objects.base import ObjectStore, object_key
from gateway.jobs.objects.folder import check_free_space
from gateway.jobs.unpacking import TooLargeMember, limits_of, unpack
from gateway.jobs.upload_limits import (
    MEGABYTE,
    UploadLimits,
    clean_name,
    fetched,
    too_many_megabytes,
)
from gateway.outbound.images import ImageFetcher
from gateway.outbound.memory import Budget
from gateway.outbound.urls import name_of_url
from gateway.records.job_erasure import ErasedItems
from gateway.records.job_types import JobRecord, NewItem
from gateway.records.jobs import CANCELLED, JobRecords
from gateway.records.types import KeptAnswer
from gateway.records.upload_erasure import erase_upload
from gateway.settings import Settings

T = TypeVar("T")
log = logging.getLogger(__name__)

_FETCHING_AT_ONCE: Final = 8
"""URLs of one upload that are fetched at a time."""
_STORING_AT_ONCE: Final = 8
"""Images in memory while they are sealed and stored, of all uploads together."""
_UNPACKING_AT_ONCE: Final = 4
"""Archives that are unpacked at a time: each holds an image and a directory in memory."""
_ITEMS_AT_ONCE: Final = 200
"""Images that are written to the records in one transaction."""
_SETTLE_SECONDS: Final = 60.0


class Uploads:
    """All uploads of this process."""

    def __init__(
        self,
        settings: Settings,
        records: JobRecords,
        objects: ObjectStore,
        background: BackgroundTasks,
        fetcher: ImageFetcher,
        memory: Budget,
    ) -> None:
        """memory: bounds the bytes of all requests that are being received."""
        self.fetcher = fetcher
        self.memory = memory
        self.fetch_seconds = settings.body_timeout_seconds
        """Time for all URLs of an upload."""
        self.limits = UploadLimits(
            ImageLimits(settings.max_image_bytes, settings.max_image_megapixels),
            settings.job_max_images,
            settings.job_max_megabytes * MEGABYTE,
        )
        self.records = records
        self.objects = objects
        self.is_local = settings.object_store_url is None
        """Whether images are stored on this machine's disk."""
        self.storing = asyncio.Semaphore(_STORING_AT_ONCE)
        self.unpacking = asyncio.Semaphore(_UNPACKING_AT_ONCE)
        self._background = background
        self._arriving: dict[str, Upload] = {}
        """By job."""
        self._scratch = settings.home / "scratch"
        self._min_free_bytes = settings.min_free_disk_megabytes * MEGABYTE

    async def check_space(self, more_bytes: int = 0) -> None:
        """Raise InsufficientStorageError unless the disk has room for this much more."""
        # a thread: a disk that hangs shall delay nobody else
        check = partial(check_free_space, self._scratch, self._min_free_bytes)
        await asyncio.to_thread(check, more_bytes=more_bytes)

    @asynccontextmanager
    async def scratch_file(self) -> AsyncIterator[IO[bytes]]:
        """Open a file without a name: the system removes it however this process ends."""
        file = await asyncio.to_thread(_open_scratch, self._scratch)
        try:
            yield file
        finally:
            # it may be closing while a thread reads: waits for that read
            await asyncio.to_thread(file.close)

    @asynccontextmanager
    async def receive(self, job: JobRecord) -> AsyncIterator["Upload"]:
        """Receive the images of a job; unless it is submitted in the block, nothing stays.

        Raises JobsUnavailableError if the object store is away, StorageUnavailableError if the
        records are, InsufficientStorageError if the disk is nearly full.
        """
        await self.check_space()
        await self.objects.health()
        await self.records.create(job)
        upload = self._arriving[job.id] = Upload(self, job)
        try:
            yield upload
        finally:
            del self._arriving[job.id]
            if not upload.is_submitted:
                # goes on when the client has hung up and this task is cancelled again
                task = self._background.detach("discard-upload", self._discard(upload))
                await asyncio.wait({task})

    def stop(self, job_id: str) -> None:
        """End the upload of a job that was cancelled, if it arrives here, with its next image.

        One that arrives at another gateway ends when its next images are recorded.
        """
        if job_id in self._arriving:
            self._arriving[job_id].fail(ConflictError(CANCELLED))

    async def carry_through(self, ending: Coroutine[Any, Any, T]) -> T:
        """Return what `ending` returns; it goes on to its end if the client hangs up meanwhile.

        Otherwise a job could be submitted, and not be known under the key of its upload.
        """
        task = self._background.detach("submit-upload", ending)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _discard(self, upload: "Upload") -> None:
        await upload.settle()
        try:
            # the records first: the job may have been submitted without this process learning it,
            # if the client hung up or the database went away at that moment
            if await self.records.discard(upload.job.id):
                await self.objects.delete_job(upload.job.id)
        except AurumError as error:
            # housekeeping removes an abandoned job, and objects without a job
            log.warning(
                "the rest of an upload stays for now",
                extra={"job_id": upload.job.id, "code": error.code},
            )


class Upload:
    """The images of one job that is being received."""

    def __init__(self, uploads: Uploads, job: JobRecord) -> None:
        self.job = job
        self.skipped = 0
        self.is_submitted = False
        self._uploads = uploads
        self._count = 0
        self._bytes = 0
        self._waiting: list[NewItem] = []
        self._storing = BackgroundTasks()
        self._failure: AurumError | Exception | None = None
        self._digests: dict[int, str] = {}
        self._fetching = asyncio.Semaphore(_FETCHING_AT_ONCE)
        self._fetch_until: float | None = None

    @property
    def total(self) -> int:
        """Number of images so far."""
        return self._count

    async def add_image(self, name: str | None, data: bytes) -> None:
        """Take an image; returns when it is being stored, or when others have to be first.

        An image that no worker could use ends as an error at once. Raises InvalidRequestError for
        too many images, ImageTooLargeError for too many bytes, and what storing earlier ones
        raised.
        """
        index = self._take(len(data))
        await self._uploads.storing.acquire()
        task = self._storing.detach("upload", self._store(index, clean_name(name, index), data))
        task.add_done_callback(self._stored)
        await self._write_items(_ITEMS_AT_ONCE)

    @property
    def max_image_bytes(self) -> int:
        """Largest image, in bytes."""
        return self._uploads.limits.image.max_bytes

    async def add_too_large(self, name: str | None) -> None:
        """Take note of an image with too many bytes: it ends as an error at once."""
        await self.add_refused(name, ImageTooLargeError(too_many_bytes(self.max_image_bytes)))

    async def add_refused(self, name: str | None, error: AurumError) -> None:
        """Take note of an image that ends with this error at once."""
        index = self._take(0)
        self._add(_refused(index, clean_name(name, index), "", 0, error))
        await self._write_items(_ITEMS_AT_ONCE)

    async def add_url(self, name: str | None, url: str) -> None:
        """Take an image that is to be fetched; returns when it is, or when others have to be first.

        One that cannot be had ends as an error at once. Raises as `add_image`, and
        ImageUrlRefusedError if the service fetches no URLs at all.
        """
        self._uploads.fetcher.check_mode()
        if self._fetch_until is None:
            self._fetch_until = time.monotonic() + self._uploads.fetch_seconds
        index = self._take(0)
        await self._fetching.acquire()
        name = clean_name(name or name_of_url(url), index)
        task = self._storing.detach("fetch", self._fetch(index, name, url, self._fetch_until))
        task.add_done_callback(self._fetched)
        await self._write_items(_ITEMS_AT_ONCE)

    async def add_archive(self, file: IO[bytes], name: str | None) -> None:
        """Take the images of an archive; raises as `unpack` and `add_image`.

        name: that of the archive where the upload has other parts. Members are named below it,
        unless the job takes subjects from folders, of which an archive is none.
        """
        is_folder = name is not None and self.job.options.get("subject_from") != "folder"
        limits = self._uploads.limits
        left = limits_of(
            image_bytes=self.max_image_bytes,
            images=limits.images,
            total_bytes=limits.total_bytes - self._bytes,
        )
        async with self._uploads.unpacking:
            async for member in unpack(file, name, left):
                full = f"{name}/{member.name}" if is_folder else member.name
                if isinstance(member, ImageMember):
                    await self.add_image(full, member.data)
                elif isinstance(member, TooLargeMember):
                    await self.add_too_large(full)
                elif isinstance(member, OtherMember):
                    self.skipped += 1

    async def finish(self) -> str:
        """Wait until everything is stored for good; returns the digest of the content.

        Raises InvalidRequestError if there is no image, and what storing raised.
        """
        await self.settle()
        self._raise_failure()
        if not self._count:
            more = "; the files in it are no images" if self.skipped else ""
            raise InvalidRequestError(f"the upload contains no image{more}")
        await self._write_items(1)
        await self._uploads.objects.flush(self.job.id)
        digest = hashlib.sha256(self._settings_of_job())
        for index in range(self._count):
            digest.update(self._digests[index].encode())
        return digest.hexdigest()

    def _settings_of_job(self) -> bytes:
        job = self.job
        asked = [job.operation, job.collection_id, job.webhook_url, dict(job.options)]
        return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)

    async def submit(self, kept: Callable[[JobRecord], KeptAnswer] | None = None) -> JobRecord:
        """Let workers begin; call `finish` first. kept: as of `JobRecords.submit`."""
        erased = ErasedItems()
        job = await self._uploads.records.submit(
            self.job.id,
            skipped=self.skipped,
            kept=kept,
            change=partial(erase_upload, subject_of=subject_in, erased=erased),
        )
        self.is_submitted = True
        if erased.objects:
            await self._drop(erased.objects)
        return job

    async def _drop(self, keys: Sequence[str]) -> None:
        """Delete images that were erased while the others arrived."""
        try:
            await self._uploads.objects.delete(keys)
        except AurumError as error:
            # they are sealed, nothing names them any more, and they go with their job
            log.warning("uploaded images stay for now", extra={"reason": error.detail})

    async def settle(self) -> None:
        """Wait until nothing is being stored any more.

        A task that were cancelled would leave its thread behind, which stores on.
        """
        while self._storing:
            await self._storing.settle(seconds=_SETTLE_SECONDS)

    def _take(self, size: int) -> int:
        """Count an image; returns its index."""
        self._raise_failure()
        limits = self._uploads.limits
        if self._count >= limits.images:
            raise InvalidRequestError(f"a job may have {limits.images} images at most")
        if self._bytes + size > limits.total_bytes:
            raise ImageTooLargeError(too_many_megabytes(limits.total_bytes))
        self._bytes += size
        self._count += 1
        return self._count - 1

    async def _store(self, index: int, name: str, data: bytes) -> None:
        item = await asyncio.to_thread(self._check, index, name, data)
        if item.object_key is not None:
            await self._uploads.objects.put(item.object_key, data)
        self._add(item)

    async def _fetch(self, index: int, name: str, url: str, until: float) -> None:
        uploads = self._uploads
        fetching = fetched(uploads.fetcher, uploads.memory, url, self.job.tenant, until=until)
        async with AsyncExitStack() as stack:
            try:
                data = await stack.enter_async_context(fetching)
            except InferenceUnavailableError:
                # as for a body that finds no room: the whole upload is to be sent again
                raise
            except AurumError as error:
                digest = hashlib.sha256(url.encode()).hexdigest()
                self._add(_refused(index, name, digest, 0, error))
                return
            if self._bytes + len(data) > uploads.limits.total_bytes:
                raise ImageTooLargeError(too_many_megabytes(uploads.limits.total_bytes))
            self._bytes += len(data)
            async with uploads.storing:
                await self._store(index, name, data)

    def _check(self, index: int, name: str, data: bytes) -> NewItem:
        try:
            image = check_image(data, self._uploads.limits.image)
        except AurumError as error:
            return _refused(index, name, hashlib.sha256(data).hexdigest(), len(data), error)
        return NewItem(index, name, image.sha256, object_key(self.job.id, index), len(data))

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._uploads.storing.release()
        self._note_failure(task)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching.release()
        self._note_failure(task)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def fail(self, error: Exception) -> None:
        """Let the upload end with this error, unless it failed before."""
        if self._failure is None:
            self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _add(self, item: NewItem) -> None:
        self._waiting.append(item)
        self._digests[item.index] = f"{item.name}\0{item.sha256}\0{item.code or ''}"

    async def _write_items(self, least: int) -> None:
        """Write images to the records if so many are waiting for it."""
        if len(self._waiting) < least:
            return
        items, self._waiting = self._waiting, []
        if items:
            items.sort(key=lambda item: item.index)
            await self._uploads.records.add_items(self.job.id, items)


def _refused(index: int, name: str, sha256: str, size: int, error: AurumError) -> NewItem:
    return NewItem(index, name, sha256, None, size, code=error.code, detail=error.detail)


def _open_scratch(folder: Path) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # without a name from the start where the file system can
    return tempfile.TemporaryFile(dir=folder, prefix="upload-")

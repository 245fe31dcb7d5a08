"""Vectors in Qdrant Edge, durable in a folder, with one engine process (the default store)."""

import asyncio
import contextlib
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from gateway.checkout import without_secrets
from gateway.child_process import Reply, Request, read_from, write_to
from gateway.concurrency import BackgroundTasks
from gateway.deadline import seconds_allowed
from gateway.errors import StorageUnavailableError
from gateway.settings import CHECKOUT
from gateway.vectors.base import (
    NO_FILTER,
    FaceFilter,
    FacePoint,
    Match,
    Vector,
    VectorCollection,
    VectorHealth,
    VectorInfo,
    VectorPage,
    VectorTuning,
)
from gateway.vectors.edge.protocol import MANIFEST
from gateway.vectors.edge.silence import Silence

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_LOG_FILE = "engine.log"
_CLOSE_SECONDS = 30.0
_START_SECONDS = 120.0
_LOCK_RETRY_SECONDS = 0.5
_LOCK_TRIES = 20
_MAX_IN_FLIGHT = 256
_SILENT_SECONDS = 5.0
"""An engine that has answered nothing for so long is not asked any more."""
_HANGING_SECONDS = 30.0
"""An engine that has answered nothing for so long is ended, and starts again."""
_RETRY_SECONDS = 2
_CALL_SECONDS = 60.0
"""Longest time of a call of a request, which has its own deadline as well."""
_T = TypeVar("_T")
log = logging.getLogger("aurum.vectors")


class EdgeVectorStore:
    """The client of the engine process; starts it, and restarts it if it dies."""

    def __init__(self, folder: Path, tuning: VectorTuning, *, min_free_bytes: int) -> None:
        self._folder = folder
        self._tuning = tuning
        self._min_free_bytes = min_free_bytes
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._process: Process | None = None
        self._starts = 0
        self._reader: asyncio.Task[None] | None = None
        self._tasks = BackgroundTasks()
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._running_flushes: dict[str, asyncio.Task[None]] = {}
        self._queued_flushes: dict[str, asyncio.Task[None]] = {}
        self._silence = Silence()
        self._closed = False

    @classmethod
    async def open(
        cls, folder: Path, tuning: VectorTuning, *, min_free_bytes: int
    ) -> "EdgeVectorStore":
        """Start the engine on `folder`; raises StorageUnavailableError if it cannot.

        Without stored vectors it starts with the first call: a service that only scores photos
        does not need it.
        """
        store = cls(folder, tuning, min_free_bytes=min_free_bytes)
        if await asyncio.to_thread(lambda: any(folder.glob(f"*/{MANIFEST}"))):
            await store._ensure_started()
        return store

    async def create(self, collection: VectorCollection, *, dimension: int) -> None:
        """See `VectorStore.create`."""
        await self._call("create", collection.name, dimension)

    async def collections(self) -> tuple[VectorCollection, ...]:
        """See `VectorStore.collections`."""
        return cast("tuple[VectorCollection, ...]", await self._call("collections"))

    async def upsert(self, collection: VectorCollection, points: Sequence[FacePoint]) -> None:
        """See `VectorStore.upsert`."""
        await self._call("upsert", collection.name, tuple(points))

    async def delete(self, collection: VectorCollection, face_ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        return cast("int", await self._call("delete", collection.name, tuple(face_ids)))

    async def delete_subject(self, collection: VectorCollection, subject: str) -> int:
        """See `VectorStore.delete_subject`."""
        return cast("int", await self._call("delete_subject", collection.name, subject))

    async def search(
        self,
        collection: VectorCollection,
        vector: Vector,
        *,
        limit: int,
        min_similarity: float,
        where: FaceFilter = NO_FILTER,
        by_subject: bool = True,
    ) -> tuple[Match, ...]:
        """See `VectorStore.search`."""
        found = await self._call(
            "search", collection.name, vector, limit, min_similarity, where, by_subject
        )
        return cast("tuple[Match, ...]", found)

    async def scroll(
        self,
        collection: VectorCollection,
        *,
        limit: int,
        cursor: str | None = None,
        where: FaceFilter = NO_FILTER,
    ) -> VectorPage:
        """See `VectorStore.scroll`."""
        page = await self._call("scroll", collection.name, limit, cursor, where)
        return cast("VectorPage", page)

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""
        points = await self._call("retrieve", collection.name, tuple(face_ids))
        return cast("tuple[FacePoint, ...]", points)

    async def count(self, collection: VectorCollection, where: FaceFilter = NO_FILTER) -> int:
        """See `VectorStore.count`."""
        return cast("int", await self._call("count", collection.name, where))

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """See `VectorStore.info`."""
        return cast("VectorInfo", await self._call("info", collection.name))

    async def drop(self, collection: VectorCollection) -> bool:
        """See `VectorStore.drop`."""
        return cast("bool", await self._call("drop", collection.name))

    async def flush(self, collection: VectorCollection) -> None:
        """See `VectorStore.flush`: callers who wait during a flush share the next one."""
        name = collection.name
        queued = self._queued_flushes.get(name)
        if queued is None:
            running = self._running_flushes.get(name)
            queued = self._tasks.detach("vectors-flush", self._flush_after(name, running))
            self._queued_flushes[name] = queued
        await asyncio.shield(queued)

    async def _flush_after(self, name: str, running: "asyncio.Task[None] | None") -> None:
        # a running flush may miss this caller's write; the next one covers all waiting callers
        if running is not None:
            await asyncio.wait({running})
        self._running_flushes[name] = self._queued_flushes.pop(name)
        try:
            await self._call("flush", name)
        finally:
            if self._running_flushes.get(name) is asyncio.current_task():
                del self._running_flushes[name]

    async def building(self) -> bool:
        """Whether the engine is indexing."""
        return cast("bool", await self._call("building"))

    @property
    def engine_pid(self) -> int | None:
        """Process id of the engine, for its memory in metrics and benchmarks."""
        return None if self._process is None else self._process.pid

    async def health(self) -> VectorHealth:
        """See `VectorStore.health`. An engine that ended is started again."""
        if not self._starts:
            return VectorHealth("Qdrant Edge, which starts with the first face", None)
        found = len(await self.collections())
        detail = f"Qdrant Edge, process {self.engine_pid}, {found} collections"
        return VectorHealth(detail, found, self.engine_pid, self._starts)

    async def close(self) -> None:
        """Stop the engine: it flushes and exits when its input ends."""
        self._closed = True
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _CLOSE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _call(self, method: str, *arguments: object) -> object:
        silent = self._silence.seconds
        if silent > _SILENT_SECONDS:
            raise StorageUnavailableError(
                f"the vector engine has not answered for {silent:.0f} s",
                retry_after_seconds=_RETRY_SECONDS,
            )
        try:
            async with asyncio.timeout(seconds_allowed(_CALL_SECONDS)), self._slots:
                return await self._exchange(method, arguments)
        except TimeoutError as error:
            message = "the vector engine does not answer"
            raise StorageUnavailableError(message, retry_after_seconds=1) from error

    async def _exchange(self, method: str, arguments: tuple[object, ...]) -> object:
        process = await self._ensure_started()
        number = next(self._numbers)
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            write_to(process, Request(number, method, arguments))
            self._silence.asked()
            return await self._answer(process, future)
        finally:
            self._waiting.pop(number, None)

    async def _answer(self, process: "Process", future: "asyncio.Future[object]") -> object:
        """Wait for an answer; an engine that answers nothing at all is ended and starts again."""
        while not future.done():
            await asyncio.wait({future}, timeout=_HANGING_SECONDS)
            if not future.done() and self._silence.seconds > _HANGING_SECONDS:
                log.error("the vector engine hangs and is ended")
                # no more than a crash: what it acknowledged is on the disk
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return future.result()

    async def _ensure_started(self) -> "Process":
        async with self._starting:
            if self._closed:
                raise StorageUnavailableError("the vector store is closed")
            if self._process is not None and self._process.returncode is None:
                return self._process
            if self._reader is not None:
                await self._reader
            for _ in range(_LOCK_TRIES):
                process = await self._start()
                if process is not None:
                    self._process = process
                    self._silence = Silence()
                    self._starts += 1
                    self._reader = self._tasks.start("vectors-reader", self._read(process))
                    return process
                # the engine of a killed gateway may still be flushing and hold the lock
                await asyncio.sleep(_LOCK_RETRY_SECONDS)
        log_file = self._folder / _LOG_FILE
        raise StorageUnavailableError(f"the vector engine does not start, see {log_file}")

    async def _start(self) -> "Process | None":
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / _LOG_FILE).open("ab") as log_file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.vectors.edge.process",
                str(self._folder.resolve()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_file,
                cwd=CHECKOUT,
                env={**without_secrets(os.environ), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        write_to(process, (self._tuning, self._min_free_bytes))
        try:
            async with asyncio.timeout(_START_SECONDS):
                if await read_from(process) is not None:
                    return process
        except TimeoutError:
            process.kill()
        await process.wait()
        return None

    async def _read(self, process: "Process") -> None:
        while (frame := await read_from(process)) is not None:
            self._silence.answered()
            reply = cast("Reply", frame)
            future = self._waiting.get(reply.number)
            if future is None or future.done():
                continue
            if reply.error is None:
                future.set_result(reply.value)
            else:
                future.set_exception(reply.error)
        self._silence = Silence()
        code = await process.wait()
        if not self._closed:
            log.error("the vector engine ended with %s", code)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    StorageUnavailableError("the vector engine ended", retry_after_seconds=1)
                )

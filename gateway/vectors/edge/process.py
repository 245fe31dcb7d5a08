"""The engine process: owns every Qdrant Edge shard, answers requests from a pipe.

Qdrant Edge holds Python's interpreter lock in every call (a search of 20,000 unindexed faces: 5
ms, a flush: up to 100 ms), and a shard may be open in one process only. In a process of its own it
cannot block an event loop. It flushes and ends when its standard input ends, also when the
gateway is killed.

Started by `store.py` as `python -m gateway.vectors.edge.process FOLDER`; the messages between the
two are those of `gateway/child_process.py`.
"""

import contextlib
import errno
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, cast

from gateway.child_process import Reply, Request, pack, read_frame
from gateway.errors import InsufficientStorageError, StorageUnavailableError
from gateway.vectors.base import (
    DimensionMismatchError,
    FaceFilter,
    FacePoint,
    Match,
    UnknownVectorCollectionError,
    Vector,
    VectorCollection,
    VectorInfo,
    VectorPage,
    VectorTuning,
)
from gateway.vectors.edge.gallery import Gallery
from gateway.vectors.edge.protocol import MANIFEST
from gateway.vectors.edge.read_socket import Asked, Waiting, listening
from gateway.vectors.edge.shard import warm

_IDLE_SECONDS = 0.05
_BUSY_TURNS = 4
"""Requests answered between two turns of maintenance, of a few milliseconds each."""
log = logging.getLogger("aurum.vectors")


class Engine:
    """All collections in one folder; a `Request` may name its public methods."""

    def __init__(self, folder: Path, tuning: VectorTuning, min_free_bytes: int) -> None:
        self._folder = folder
        self._tuning = tuning
        self._min_free_bytes = min_free_bytes
        self._galleries: dict[str, Gallery] = {}
        self._files = ThreadPoolExecutor(max_workers=2, thread_name_prefix="files")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(folder.iterdir()):
            if (path / MANIFEST).exists():
                self._galleries[path.name] = Gallery.load(path, tuning, self._files)

    def create(self, name: str, dimension: int) -> None:
        """See `VectorStore.create`."""
        gallery = self._galleries.get(name)
        if gallery is None:
            self._need_space()
            self._galleries[name] = Gallery.create(
                self._folder / name, name, dimension, self._tuning, self._files
            )
        elif gallery.dimension != dimension:
            message = f"{name} holds vectors of {gallery.dimension}, not of {dimension}"
            raise DimensionMismatchError(message)

    def collections(self) -> tuple[VectorCollection, ...]:
        """See `VectorStore.collections`."""
        parsed = (VectorCollection.parse(name) for name in self._galleries)
        return tuple(sorted(collection for collection in parsed if collection is not None))

    def upsert(self, name: str, points: tuple[FacePoint, ...]) -> None:
        """See `VectorStore.upsert`."""
        self._need_space()
        self._gallery(name).upsert(points)

    def delete(self, name: str, face_ids: tuple[str, ...]) -> int:
        """See `VectorStore.delete`."""
        return self._gallery(name).delete(face_ids)

    def delete_subject(self, name: str, subject: str) -> int:
        """See `VectorStore.delete_subject`."""
        return self._gallery(name).delete_subject(subject)

    def search(
        self,
        name: str,
        vector: Vector,
        limit: int,
        min_similarity: float,
        where: FaceFilter,
        by_subject: bool,
    ) -> tuple[Match, ...]:
        """See `VectorStore.search`."""
        return self._gallery(name).search(
            vector,
            limit=limit,
            min_similarity=min_similarity,
            where=where,
            by_subject=by_subject,
        )

    def scroll(self, name: str, limit: int, cursor: str | None, where: FaceFilter) -> VectorPage:
        """See `VectorStore.scroll`."""
        return self._gallery(name).scroll(limit=limit, cursor=cursor, where=where)

    def retrieve(self, name: str, face_ids: tuple[str, ...]) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""
        return self._gallery(name).retrieve(face_ids)

    def count(self, name: str, where: FaceFilter) -> int:
        """See `VectorStore.count`."""
        return self._gallery(name).count(where)

    def info(self, name: str) -> VectorInfo:
        """See `VectorStore.info`."""
        return self._gallery(name).info()

    def drop(self, name: str) -> bool:
        """See `VectorStore.drop`."""
        gallery = self._galleries.pop(name, None)
        if gallery is None:
            return False
        gallery.drop()
        return True

    def flush(self, name: str) -> None:
        """See `VectorStore.flush`."""
        self._gallery(name).flush()

    def building(self) -> bool:
        """Whether any collection is being indexed."""
        return any(gallery.building for gallery in self._galleries.values())

    def folders(self) -> list[Path]:
        """Return the folders of all shards."""
        return [folder for each in self._galleries.values() for folder in each.folders()]

    def maintain(self, *, idle: bool) -> bool:
        """Maintain one collection for some milliseconds; at most one build runs at a time.

        idle: no request has arrived for a while.
        """
        galleries = sorted(self._galleries.values(), key=lambda gallery: not gallery.building)
        for gallery in galleries:
            try:
                if gallery.maintain(idle=idle):
                    return True
            except (ChildProcessError, OSError) as error:
                log.warning("%s", error)
            if gallery.building:
                return False
        return False

    def close(self) -> None:
        """Flush and release everything."""
        for gallery in self._galleries.values():
            gallery.close()
        self._galleries = {}
        self._files.shutdown()

    def _gallery(self, name: str) -> Gallery:
        gallery = self._galleries.get(name)
        if gallery is None:
            raise UnknownVectorCollectionError(name)
        return gallery

    def _need_space(self) -> None:
        # Edge maps its files into memory: a write to a full disk would kill the process, so free
        # space is checked first
        status = os.statvfs(self._folder)
        free = status.f_bavail * status.f_frsize
        if free < self._min_free_bytes:
            message = f"{free} bytes are free for vectors, {self._min_free_bytes} are reserved"
            raise InsufficientStorageError(message)


METHODS: Final[dict[str, Callable[..., object]]] = {
    method.__name__: method
    for method in (
        Engine.create,
        Engine.collections,
        Engine.upsert,
        Engine.delete,
        Engine.delete_subject,
        Engine.search,
        Engine.scroll,
        Engine.retrieve,
        Engine.count,
        Engine.info,
        Engine.drop,
        Engine.flush,
        Engine.building,
    )
}


def answer(engine: Engine, request: Request) -> Reply:
    """Carry out one request."""
    try:
        value = METHODS[request.method](engine, *request.arguments)
    except (
        UnknownVectorCollectionError,
        DimensionMismatchError,
        InsufficientStorageError,
    ) as error:
        return Reply(request.number, None, error)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        kind = InsufficientStorageError if full else StorageUnavailableError
        return Reply(request.number, None, kind(str(error)))
    except Exception as error:  # Edge raises plain Exception; the supervisor of this process
        log.exception("%s failed", request.method)
        full = "No space left" in str(error)
        kind = InsufficientStorageError if full else StorageUnavailableError
        return Reply(request.number, None, kind(f"{request.method}: {error}"))
    return Reply(request.number, value, None)


def serve(engine: Engine, source: IO[bytes], sink: IO[bytes], waiting: Waiting) -> None:
    """Answer requests in order until `source` ends, with maintenance in between.

    waiting: further requests, of processes that read.
    """

    def write(reply: Reply) -> None:
        sink.write(pack(reply))
        sink.flush()

    reader = threading.Thread(target=_read, args=(source, write, waiting), daemon=True)
    reader.start()
    turns = 0
    more = True
    asked_at = 0.0
    while True:
        asked = _next(waiting, block=not more)
        if isinstance(asked, Asked):
            asked.deliver(answer(engine, asked.request))
            turns += 1
            asked_at = time.monotonic()
            if turns % _BUSY_TURNS:
                continue
        elif asked is None:
            return
        more = engine.maintain(idle=time.monotonic() - asked_at > _IDLE_SECONDS)


class _Nothing:
    """No request has arrived."""


def _next(waiting: Waiting, *, block: bool) -> Asked | _Nothing | None:
    try:
        return waiting.get(timeout=_IDLE_SECONDS) if block else waiting.get_nowait()
    except queue.Empty:
        return _Nothing()


def _read(source: IO[bytes], write: Callable[[Reply], None], waiting: Waiting) -> None:
    while (request := read_frame(source)) is not None:
        waiting.put(Asked(cast("Request", request), write))
    waiting.put(None)


def _warm_all(folders: Sequence[Path]) -> None:
    for folder in folders:
        # a shard may be merged and removed meanwhile
        with contextlib.suppress(FileNotFoundError):
            warm(folder)


def main(folder: Path) -> None:
    """Read the tuning from the first frame, open the folder, report readiness, serve."""
    # Ctrl-C reaches the whole process group; the gateway closes the input when it is done
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # a stray print must not corrupt the frames
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = sys.stdin.buffer
    given = read_frame(source)
    if given is None:
        return
    tuning, min_free_bytes = cast("tuple[VectorTuning, int]", given)
    engine = Engine(folder, tuning, min_free_bytes)
    sink.write(pack(Reply(0, None, None)))
    sink.flush()
    # reading releases the interpreter lock, so searches are answered meanwhile
    threading.Thread(target=_warm_all, args=(engine.folders(),), daemon=True).start()
    waiting: Waiting = queue.SimpleQueue()
    try:
        with contextlib.suppress(BrokenPipeError), listening(folder, waiting):
            serve(engine, source, sink, waiting)
    finally:
        engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Writes an archive of everything that must survive, while the service runs or when it is stopped.

The records come first, as they are at one moment. Their vectors are read after it: a face that was
acknowledged before that moment had its vector on the disk by then, so the vector is there, unless
the face was forgotten since. Such a face is left out when the backup is restored; a face that was
enrolled later is in the next backup.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.collections.factory import open_edge, open_server
from gateway.jobs.objects.base import ObjectMissingError
from gateway.jobs.objects.factory import open_store_as_is
from gateway.records.audit_anchor import anchor_file
from gateway.records.factory import records_files, records_url
from gateway.records.snapshot import FaceIndex, RecordSnapshot, record_snapshot
from gateway.release import release
from gateway.settings import Settings
from gateway.vectors.base import (
    FacePoint,
    UnknownVectorCollectionError,
    VectorCollection,
    VectorInfo,
)
from gateway.vectors.edge.read_socket import EdgeReader
from gateway.vectors.payload import write_payload
from tools.backup import models, names
from tools.backup.errors import BackupError
from tools.backup.keys import UsedKeys, best_of, read_key_files
from tools.backup.members import ArchiveWriter
from tools.backup.places import Place
from tools.backup.sealed_stream import SealedWriter
from tools.backup.secret import BackupSecret

_FACES_AT_ONCE: Final = 32
"""A page takes a running engine some milliseconds, in which it answers nobody else."""
_PIECE_BYTES: Final = 1 << 20
FORGOTTEN: Final = "forgotten"
LOST: Final = "lost"
Report = Callable[[str, int, int], None]
"""Called with each step: what, how many, of how many."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a backup contains besides records and vectors."""

    keys: bool = True
    job_images: bool = False
    weights: bool = False


class VectorReader(Protocol):
    """The part of `VectorStore` that a backup needs."""

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """See `VectorStore.info`."""

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""

    async def close(self) -> None:
        """See `VectorStore.close`."""


async def create(
    settings: Settings, place: Place, secret: BackupSecret, parts: Parts, report: Report
) -> dict[str, Any]:
    """Write an archive into a place; returns its manifest with its name and size.

    Raises BackupError, ConfigurationError, StorageUnavailableError.
    """
    started = time.time()
    name = names.archive_name(started)
    url, files = records_url(settings), records_files(settings)
    keys_before = read_key_files(settings)
    # an anchor of a line that the snapshot does not have would deny the restored log
    sizes = {kind: _size(file) for kind, file in _small_files(settings).items()}
    async with (
        record_snapshot(url, files) as snapshot,
        _vector_reader(settings) as vectors,
        place.writing(name) as sink,
    ):
        head = {"release": release(), "revision": snapshot.revision, "created_at": started}
        stream = await SealedWriter.open(sink, secret, head)
        work = _Creation(settings, snapshot, vectors, ArchiveWriter(stream), report)
        used = await work.records()
        await work.vectors()
        await work.left_out()
        manifest = dict(work.manifest)
        if parts.keys:
            keys = best_of(keys_before, read_key_files(settings), used)
            for kind, content in keys.items():
                await work.content(names.KEYS + kind, content)
            manifest["missing_keys"] = used.missing(keys)
        for kind, file in _small_files(settings).items():
            if sizes[kind]:
                await work.file(names.FILES + kind, file, size=sizes[kind])
        if parts.job_images:
            manifest["job_images"] = await work.job_images()
        manifest["models"] = models.describe(settings)
        if parts.weights:
            for path, file in models.weight_files(settings):
                await work.file(names.WEIGHTS + path, file)
        manifest |= head | {"seconds": round(time.time() - started, 3), "has_keys": parts.keys}
        await work.archive.finish(manifest)
    return {"name": name, "bytes": stream.written, **manifest}


class _Creation:
    """An archive that is being written."""

    def __init__(
        self,
        settings: Settings,
        snapshot: RecordSnapshot,
        vectors: VectorReader,
        archive: ArchiveWriter,
        report: Report,
    ) -> None:
        self.archive = archive
        self._settings = settings
        self._snapshot = snapshot
        self._vectors = vectors
        self._report = report
        self._left_out: list[tuple[str, str, str, str]] = []
        self._rows: dict[str, int] = {}
        self._points: dict[str, int] = {}

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Counts of what was written."""
        reasons = Counter(reason for *_, reason in self._left_out)
        left_out = {reason: reasons[reason] for reason in (FORGOTTEN, LOST)}
        return {"rows": self._rows, "vectors": self._points, "left_out": left_out}

    async def records(self) -> UsedKeys:
        """Write all tables; returns the keys that their rows need."""
        used = UsedKeys()
        for table in self._snapshot.tables:
            columns = self._snapshot.columns(table)
            total, done = await self._snapshot.count(table), 0
            about = {"columns": columns}
            async with self.archive.member(names.RECORDS + table, about):
                async for rows in self._snapshot.rows(table):
                    await self.archive.add(rows)
                    used.add(table, columns, rows)
                    done += len(rows)
                    self._report(table, done, total)
            self._rows[table] = done
        return used

    async def vectors(self) -> None:
        """Write the vectors of all faces of the snapshot."""
        for index in await self._snapshot.indexes():
            where = VectorCollection(index.tenant, index.collection, index.space)
            total, done, after = await self._snapshot.count_faces(index), 0, ""
            async with self.archive.member(
                names.VECTORS + where.name, {"dimension": await self._dimension(where)}
            ):
                self._points[where.name] = 0
                while True:
                    ids = await self._snapshot.face_ids(index, after=after, limit=_FACES_AT_ONCE)
                    if not ids:
                        break
                    points = await self._retrieve(where, ids)
                    await self._note_missing(index, [i for i in ids if i not in points])
                    await self.archive.add(
                        [
                            (point.face_id, point.vector.tobytes(), write_payload(point))
                            for point in points.values()
                        ]
                    )
                    self._points[where.name] += len(points)
                    after, done = ids[-1], done + len(ids)
                    self._report(f"{index.tenant}/{index.collection}", done, total)

    async def left_out(self) -> None:
        """Write which faces have no vector in the archive."""
        async with self.archive.member(names.LEFT_OUT):
            for start in range(0, len(self._left_out), 1000):
                await self.archive.add(self._left_out[start : start + 1000])

    async def job_images(self) -> int:
        """Write the images of jobs as they are stored, sealed; returns how many."""
        store = open_store_as_is(self._settings)
        written = 0
        try:
            for job_id in await store.jobs():
                for key in await store.keys(job_id):
                    try:
                        content = await store.get(key)
                    except ObjectMissingError:
                        # its job has just ended
                        continue
                    await self.content(names.OBJECTS + key, content)
                    written += 1
                    self._report("images of jobs", written, written)
        finally:
            await store.close()
        return written

    async def file(self, name: str, path: Path, *, size: int | None = None) -> None:
        """Write a file, or its first bytes."""
        left = _size(path) if size is None else size
        with path.open("rb") as file:
            async with self.archive.member(name):
                while piece := file.read(min(left, _PIECE_BYTES)):
                    await self.archive.add([piece])
                    left -= len(piece)

    async def content(self, name: str, content: bytes) -> None:
        """Write bytes that are in memory."""
        async with self.archive.member(name):
            await self.archive.add([content])

    async def _dimension(self, where: VectorCollection) -> int:
        try:
            return (await self._vectors.info(where)).dimension
        except UnknownVectorCollectionError:
            return 0

    async def _retrieve(
        self, where: VectorCollection, ids: Sequence[str]
    ) -> Mapping[str, FacePoint]:
        try:
            return {point.face_id: point for point in await self._vectors.retrieve(where, ids)}
        except UnknownVectorCollectionError:
            return {}

    async def _note_missing(self, index: FaceIndex, ids: Sequence[str]) -> None:
        """Find out why vectors are missing: the records of now know what was forgotten."""
        if not ids:
            return
        url, files = records_url(self._settings), records_files(self._settings)
        before = await self._snapshot.faces(ids)
        async with record_snapshot(url, files) as of_now:
            now = await of_now.faces(ids)
        for face_id in ids:
            there = now.get(face_id)
            if there is None or there.state != "committed":
                reason = FORGOTTEN
            elif index.space in (there.space, there.copied_to):
                reason = LOST
            elif before[face_id].space == index.space:
                message = (
                    f"{index.tenant}/{index.collection} changed its embedding space while it was "
                    "read; run the backup again"
                )
                raise BackupError(message)
            else:
                # a copy in another space was dropped
                reason = FORGOTTEN
            self._left_out.append((index.collection_id, index.space, face_id, reason))


def _small_files(settings: Settings) -> Mapping[str, Path]:
    return {"audit-anchor": anchor_file(settings), "models-journal": models.journal_file(settings)}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


@asynccontextmanager
async def _vector_reader(settings: Settings) -> AsyncIterator[VectorReader]:
    """Open the vectors: those of a running service through its engine."""
    reader: VectorReader
    if settings.qdrant_url is not None:
        reader = await open_server(settings, settings.qdrant_url)
    else:
        running = await EdgeReader.connect(settings.home / "vectors")
        reader = running or await open_edge(settings)
    try:
        yield reader
    finally:
        await reader.close()

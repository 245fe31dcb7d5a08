"""Brings a home into the state of an archive.

The archive is read and checked as a whole before anything is touched. Records come to exist in one
transaction, which ends when their vectors are on the disk. A file in the home says that a restore
is under way: until it has ended, no gateway starts there, and a repeat of the command begins anew.
"""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from gateway.collections.factory import open_edge, open_server
from gateway.durable_files import write_synced
from gateway.jobs.objects.factory import open_store_as_is
from gateway.records.audit_anchor import anchor_file
from gateway.records.erasure_register import register_file
from gateway.records.factory import records_files, records_url, restoring_file
from gateway.records.reload import RecordReload, count_rows, record_reload
from gateway.records.revisions import knows_revision, newest_revision
from gateway.settings import Settings
from gateway.vectors.base import FacePoint, Vector, VectorCollection, VectorStore
from gateway.vectors.edge.read_socket import EdgeReader
from gateway.vectors.payload import read_point
from tools.backup import models, names
from tools.backup.check import Restored, check
from tools.backup.create import Report
from tools.backup.erase_again import erase_again
from tools.backup.errors import BackupError
from tools.backup.keys import key_ids, read_key_files, write_key_files
from tools.backup.members import Begin, End, Frame, Items, read_members
from tools.backup.places import Place
from tools.backup.registers import read_registers
from tools.backup.sealed_stream import read_head, read_sealed
from tools.backup.secret import BackupSecret
from tools.backup.verify import verify, watch_of

_POINTS_AT_ONCE: Final = 500
_SAMPLES: Final = 50
"""Faces of each vector collection that must find themselves afterwards."""


async def restore(
    settings: Settings,
    place: Place,
    name: str,
    secret: BackupSecret,
    *,
    replace: bool,
    report: Report,
    erasures: Sequence[Path] = (),
    keys_are_lost: bool = False,
) -> dict[str, Any]:
    """Restore an archive; returns its manifest with what was done.

    erasures: registers and receipts of erasures, besides the register of the settings.
    keys_are_lost: go on where the backup has no keys, and the home neither. Raises BackupError,
    ConfigurationError, StorageUnavailableError.
    """
    started = time.monotonic()
    head, _ = await read_head(await place.reader(name))
    if not knows_revision(str(head.get("revision"))):
        message = (
            f"the backup is of release {head.get('release')} with tables of revision "
            f"{head.get('revision')}; this release ends with {newest_revision()}: use a newer one"
        )
        raise BackupError(message)
    watch = await watch_of(place, name, report)
    manifest = await verify(place, name, secret, watch)
    registers = await read_registers(settings, erasures)
    lacking = "" if manifest["has_keys"] else _lacking_keys(settings, manifest["needed_keys"])
    if lacking and not keys_are_lost:
        message = (
            f"the backup has no keys, and this home lacks those that it needs ({lacking}): put the "
            "files into it first; --keys-are-lost goes on without"
        )
        raise BackupError(message)
    marker = restoring_file(settings)
    running = await EdgeReader.connect(settings.home / "vectors")
    if running is not None:
        await running.close()
        raise BackupError("a gateway runs in this home: stop it first")
    settings.home.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        vectors = await _open_vectors(settings)
        stack.push_async_callback(vectors.close)
        if not (replace or marker.exists()):
            await _refuse_filled(settings, vectors)
        _mark(marker, name)
        for old in await vectors.collections():
            await vectors.drop(old)
        work = _Restoration(settings, vectors, manifest, report)
        frames = read_members(read_sealed(await place.reader(name), secret))
        url, files = records_url(settings), records_files(settings)
        async with record_reload(url, manifest["revision"], files) as records:
            await work.read(frames, records)
        notes = work.finish()
        restored, problem = None, None
        try:
            restored = await check(settings, vectors, manifest, work.samples)
        except BackupError as error:
            # who was erased must not be back, whatever else is wrong
            problem = error
        report("erase again", 0, 1)
        again, doubts = await erase_again(settings, vectors, registers, is_restoring=True)
        report("erase again", 1, 1)
        # until here no gateway starts
        marker.unlink()
        if restored is None:
            raise problem or BackupError("the restored home was not checked")
    if not registers.sources:
        doubts.append(
            f"warning: there is no register of erasures ({register_file(settings)}): whoever was "
            "erased after the backup is back"
        )
    if lacking:
        doubts.append(f"warning: what these keys sealed cannot be opened: {lacking}")
    notes += doubts + models.differences(settings, manifest["models"])
    answer = _answer(name, manifest, restored, notes, time.monotonic() - started)
    return answer | {"erased_again": again, "registers": list(registers.sources)}


def _answer(
    name: str,
    manifest: Mapping[str, Any],
    restored: Restored,
    notes: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    return {
        "name": name,
        "created_at": manifest["created_at"],
        "release": manifest["release"],
        "rows": dict(restored.rows),
        "vectors": manifest["vectors"],
        "left_out": manifest["left_out"],
        "searched": restored.searched,
        "seconds": round(seconds, 3),
        "notes": list(notes),
    }


class _Restoration:
    """An archive that is being read into a home."""

    def __init__(
        self,
        settings: Settings,
        vectors: VectorStore,
        manifest: Mapping[str, Any],
        report: Report,
    ) -> None:
        self.samples: dict[VectorCollection, list[Vector]] = {}
        self._settings = settings
        self._vectors = vectors
        self._manifest = manifest
        self._report = report
        self._keys: dict[str, bytes] = {}
        self._files: dict[str, bytes] = {}
        self._weights = models.WeightsRestore(settings)
        self._objects = open_store_as_is(settings)
        self._object = bytearray()
        self._points: list[FacePoint] = []
        self._jobs: set[str] = set()

    async def read(self, frames: AsyncIterator[Frame], records: RecordReload) -> None:
        """Take every part of the archive to its place."""
        member, done = Begin("", {}), 0
        try:
            async for frame in frames:
                match frame:
                    case Begin():
                        member, done = frame, 0
                        await self._begin(member)
                    case Items():
                        await self._take(member, frame.items, records)
                        done += len(frame.items)
                        self._report(*self._progress(member, done))
                    case End():
                        await self._end(member)
                    case _:
                        pass
        finally:
            for job_id in self._jobs:
                await self._objects.flush(job_id)
            await self._objects.close()

    def finish(self) -> list[str]:
        """Write keys and files; returns what the operator should know."""
        notes = write_key_files(self._settings, self._keys)
        for file, content in (
            (anchor_file(self._settings), self._files.get("audit-anchor")),
            (models.journal_file(self._settings), self._files.get("models-journal")),
        ):
            if content is None:
                continue
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            elif file.read_bytes() != content:
                # what it says about the time since the backup is nowhere else
                notes.append(f"{file} is not that of the backup and stays as it is")
        versions = self._weights.finish()
        if versions:
            notes.append(f"{versions} versions of models were written")
        for kind, ids in self._manifest.get("missing_keys", {}).items():
            notes.append(f"{kind} keys were missing when it was made: {', '.join(ids)}")
        return notes

    async def _begin(self, member: Begin) -> None:
        self._object.clear()
        if member.name.startswith(names.VECTORS):
            where = _collection(member)
            if member.about["dimension"]:
                await self._vectors.create(where, dimension=member.about["dimension"])
        if member.name.startswith(names.WEIGHTS):
            file = self._weights.open(member.name.removeprefix(names.WEIGHTS))
            if file is not None:
                file.touch()

    async def _take(self, member: Begin, items: Sequence[Any], records: RecordReload) -> None:
        kind, _, rest = member.name.partition("/")
        match f"{kind}/" if rest else kind:
            case names.RECORDS:
                await records.insert(rest, member.about["columns"], items)
            case names.VECTORS:
                await self._take_points(_collection(member), items)
            case names.LEFT_OUT:
                for _, space, face_id, _ in items:
                    records.leave_out([face_id], space=space)
            case names.KEYS:
                self._keys[rest] = self._keys.get(rest, b"") + b"".join(items)
            case names.FILES:
                self._files[rest] = self._files.get(rest, b"") + b"".join(items)
            case names.OBJECTS:
                self._object += b"".join(items)
            case names.WEIGHTS:
                file = self._weights.open(rest)
                if file is not None:
                    with file.open("ab") as handle:
                        handle.writelines(items)
            case _:
                raise BackupError(f"the archive has a part {member.name[:60]!r}, unknown here")

    async def _take_points(self, where: VectorCollection, items: Sequence[Any]) -> None:
        points = [_point(*item) for item in items]
        samples = self.samples.setdefault(where, [])
        samples += [point.vector for point in points[: _SAMPLES - len(samples)]]
        self._points += points
        if len(self._points) >= _POINTS_AT_ONCE:
            await self._write_points(where)

    async def _write_points(self, where: VectorCollection) -> None:
        if self._points:
            await self._vectors.upsert(where, self._points)
            self._points = []

    async def _end(self, member: Begin) -> None:
        if member.name.startswith(names.VECTORS) and member.about["dimension"]:
            await self._write_points(_collection(member))
            await self._vectors.flush(_collection(member))
        if member.name.startswith(names.OBJECTS):
            key = member.name.removeprefix(names.OBJECTS)
            await self._objects.put(key, bytes(self._object))
            self._jobs.add(key.partition("/")[0])

    def _progress(self, member: Begin, done: int) -> tuple[str, int, int]:
        kind, _, rest = member.name.partition("/")
        total = self._manifest.get({"records": "rows"}.get(kind, kind), {})
        expected = total.get(rest, done) if isinstance(total, dict) else done
        return member.name.replace("~", "/"), done, expected


def _collection(member: Begin) -> VectorCollection:
    where = VectorCollection.parse(member.name.removeprefix(names.VECTORS))
    if where is None:
        raise BackupError("the archive has vectors of no collection")
    return where


def _point(face_id: str, vector: bytes, payload: Mapping[str, Any]) -> FacePoint:
    return read_point(face_id, np.frombuffer(vector, dtype=np.float32), payload)


async def _open_vectors(settings: Settings) -> VectorStore:
    if settings.qdrant_url is not None:
        return await open_server(settings, settings.qdrant_url)
    return await open_edge(settings)


async def _refuse_filled(settings: Settings, vectors: VectorStore) -> None:
    """Refuse a home in which something is stored; raises BackupError."""
    filled: list[str] = []
    rows = await count_rows(records_url(settings), records_files(settings))
    if rows:
        filled.append(f"{rows} rows of records")
    collections = await vectors.collections()
    if collections:
        filled.append(f"{len(collections)} collections of vectors")
    if filled:
        message = f"the home is not empty ({', '.join(filled)}); --replace replaces all of it"
        raise BackupError(message)


def _lacking_keys(settings: Settings, needed: Mapping[str, Sequence[str]]) -> str:
    """Name keys that rows need and the home lacks.

    A restore would go on with new ones, and write the next line of the audit log with such a key.
    """
    files = read_key_files(settings)
    missing = {
        kind: sorted(set(ids) - (key_ids(kind, files[kind]) if kind in files else set()))
        for kind, ids in needed.items()
    }
    return "; ".join(f"{kind}: {', '.join(ids)}" for kind, ids in missing.items() if ids)


def _mark(marker: Path, name: str) -> None:
    """Say on the disk that the home is not complete until the end."""
    write_synced(marker, json.dumps({"archive": name, "since": time.time()}).encode())

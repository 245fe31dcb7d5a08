"""Copy every vector collection from one home to another: resumable, verified."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.durable_files import write_synced
from gateway.vectors.base import FacePoint, VectorCollection, VectorStore
from gateway.vectors.payload import write_payload

_PAGE = 500
_TOLERANCE = 1e-5
"""Both homes scale vectors to unit length; the last bits of a float may differ after that."""

Report = Callable[[VectorCollection, str, int, int], None]
"""Called with each step: collection, `copied` or `verified`, how many, of how many."""


class MoveError(Exception):
    """Source and target differ; its text says in what."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One collection that is in both homes now; checksum: of all ids and payloads, SHA-256."""

    collection: VectorCollection
    points: int
    checksum: str


class Progress:
    """Where a move is, in a file, so that the next run goes on there."""

    def __init__(self, file: Path, *, source: str, target: str) -> None:
        self._file = file
        self._route = [source, target]
        self._cursors: dict[str, str] = {}
        if file.exists():
            saved = json.loads(file.read_text())
            # what was noted for another move says nothing about this one
            if saved["route"] == self._route:
                self._cursors = saved["cursors"]

    def cursor(self, collection: VectorCollection) -> str | None:
        """The first face id that is not copied yet; None at the very beginning."""
        return self._cursors.get(collection.name)

    def note(self, collection: VectorCollection, cursor: str) -> None:
        """Everything before `cursor` is in the target, flushed."""
        self._cursors[collection.name] = cursor
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".new")
        saved = {"route": self._route, "cursors": self._cursors}
        write_synced(temporary, json.dumps(saved).encode())
        temporary.replace(self._file)

    def done(self) -> None:
        """Nothing is left to go on with."""
        self._file.unlink(missing_ok=True)


async def move_all(
    source: VectorStore, target: VectorStore, progress: Progress, report: Report
) -> tuple[Moved, ...]:
    """Copy and verify all collections. The source keeps its own.

    Nobody may write to the source meanwhile. Raises MoveError where source and target differ.
    """
    moved = []
    for collection in await source.collections():
        info = await source.info(collection)
        await target.create(collection, dimension=info.dimension)
        await _copy(source, target, collection, progress, report, total=info.points)
        moved.append(await _verify(source, target, collection, report))
    progress.done()
    return tuple(moved)


async def _copy(
    source: VectorStore,
    target: VectorStore,
    collection: VectorCollection,
    progress: Progress,
    report: Report,
    *,
    total: int,
) -> None:
    cursor = progress.cursor(collection)
    copied = await target.count(collection) if cursor is not None else 0
    while True:
        page = await source.scroll(collection, limit=_PAGE, cursor=cursor)
        if page.points:
            await target.upsert(collection, page.points)
            await target.flush(collection)
            copied += len(page.points)
            report(collection, "copied", min(copied, total), total)
        cursor = page.next_cursor
        if cursor is None:
            return
        progress.note(collection, cursor)


async def _verify(
    source: VectorStore, target: VectorStore, collection: VectorCollection, report: Report
) -> Moved:
    counts = await source.count(collection), await target.count(collection)
    if counts[0] != counts[1]:
        message = f"{collection.name}: {counts[0]} points in the source, {counts[1]} in the target"
        raise MoveError(message)
    digests = hashlib.sha256(), hashlib.sha256()
    cursor, verified = None, 0
    while True:
        page = await source.scroll(collection, limit=_PAGE, cursor=cursor)
        ids = [point.face_id for point in page.points]
        found = {point.face_id: point for point in await target.retrieve(collection, ids)}
        _compare(collection, page.points, found)
        for point in page.points:
            digests[0].update(_line(point))
            digests[1].update(_line(found[point.face_id]))
        verified += len(ids)
        report(collection, "verified", verified, counts[0])
        cursor = page.next_cursor
        if cursor is None:
            break
    if digests[0].digest() != digests[1].digest():
        message = f"{collection.name}: payloads differ between source and target"
        raise MoveError(message)
    return Moved(collection, counts[0], digests[0].hexdigest())


def _compare(
    collection: VectorCollection, points: Sequence[FacePoint], found: dict[str, FacePoint]
) -> None:
    for point in points:
        copy = found.get(point.face_id)
        if copy is None:
            message = f"{collection.name}: face {point.face_id} is missing in the target"
            raise MoveError(message)
        if not np.allclose(point.vector, copy.vector, rtol=0, atol=_TOLERANCE):
            message = f"{collection.name}: the vector of face {point.face_id} differs"
            raise MoveError(message)


def _line(point: FacePoint) -> bytes:
    payload = json.dumps(write_payload(point), sort_keys=True)
    return f"{point.face_id} {payload}\n".encode()

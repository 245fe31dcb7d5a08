"""Runs of clustering, one background task for each collection."""

import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gateway.checkout import without_secrets
from gateway.collections.base import Stores, index_of, new_id
from gateway.concurrency import BackgroundTasks
from gateway.errors import ConflictError
from gateway.records.types import ClusterRun, CollectionRecord
from gateway.settings import CHECKOUT
from gateway.vectors.base import UnknownVectorCollectionError, Vector

if TYPE_CHECKING:
    from gateway.collections.clustering import Labels

_PAGE = 1000
log = logging.getLogger(__name__)


class Clusters:
    """Starts runs, reports their progress, stops them at the end."""

    def __init__(
        self, stores: Stores, background: BackgroundTasks, *, scratch: Path, max_faces: int
    ) -> None:
        self._stores = stores
        self._background = background
        self._scratch = scratch
        self._max_faces = max_faces
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, collection: CollectionRecord, *, threshold: float) -> ClusterRun:
        """Start a run; a running one is returned instead, whatever its threshold."""
        running = self._tasks.get(collection.id)
        latest = await self._stores.records.clusters.latest(collection.id)
        if running is not None and not running.done() and latest is not None:
            return latest
        total, _ = await self._stores.records.faces.count(collection.id)
        if total > self._max_faces:
            message = f"{total} faces are too many to cluster, the limit is {self._max_faces}"
            raise ConflictError(message)
        run = ClusterRun(
            run_id=new_id(),
            collection_id=collection.id,
            state="running",
            threshold=threshold,
            total=total,
            done=0,
            detail=None,
            started_at=time.time(),
            finished_at=None,
        )
        await self._stores.records.clusters.begin(run)
        work = self._supervise(collection, run)
        self._tasks[collection.id] = self._background.start("clusters", work)
        return run

    async def settle(self) -> None:
        """At start: mark runs that a crash interrupted as failed."""
        for run in await self._stores.records.clusters.running():
            await self._stores.records.clusters.fail(
                run, "the service restarted; start the run again", at=time.time()
            )

    async def close(self) -> None:
        """Stop all runs and their processes."""
        await self._background.stop(*self._tasks.values())

    async def _supervise(self, collection: CollectionRecord, run: ClusterRun) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(prefix="clusters-", dir=self._scratch))
        try:
            await self._run(collection, run, folder)
        except asyncio.CancelledError:
            await self._stores.records.clusters.fail(run, "stopped", at=time.time())
            raise
        except Exception as error:  # the supervisor of this task
            log.exception("clustering failed", extra={"collection": collection.name})
            await self._stores.records.clusters.fail(run, str(error), at=time.time())
        finally:
            # vectors are biometric data: none may stay in a scratch folder
            shutil.rmtree(folder, ignore_errors=True)

    async def _run(self, collection: CollectionRecord, run: ClusterRun, folder: Path) -> None:
        ids, vectors = await self._vectors(collection)
        run = replace(run, total=len(ids))
        labels = await self._labels(run, vectors, folder) if ids else np.zeros(0, dtype=np.int64)
        before = await self._stores.records.clusters.members(collection.id)
        members = name_groups(ids, labels, before, collection_id=collection.id)
        await self._stores.records.clusters.finish(run, members, at=time.time())

    async def _vectors(self, collection: CollectionRecord) -> tuple[list[str], Vector]:
        ids: list[str] = []
        rows: list[Vector] = []
        if collection.space is None:
            return ids, np.zeros((0, 0), np.float32)
        index = index_of(collection, collection.space)
        alive = await self._stores.records.faces.ids(collection.id)
        cursor = None
        try:
            while True:
                page = await self._stores.vectors.scroll(index, limit=_PAGE, cursor=cursor)
                points = [point for point in page.points if point.face_id in alive]
                ids += [point.face_id for point in points]
                rows += [point.vector for point in points]
                cursor = page.next_cursor
                if cursor is None:
                    break
        except UnknownVectorCollectionError:
            pass
        return ids, np.stack(rows) if rows else np.zeros((0, 0), np.float32)

    async def _labels(self, run: ClusterRun, vectors: Vector, folder: Path) -> "Labels":
        source, target = folder / "vectors.npy", folder / "labels.npy"
        await asyncio.to_thread(np.save, source, vectors)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.collections.clustering",
            str(source),
            str(target),
            str(run.threshold),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=CHECKOUT,
            env={**without_secrets(os.environ), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        try:
            if process.stdout is not None:
                async for line in process.stdout:
                    await self._stores.records.clusters.progress(run, int(line))
            _, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            lines = complaint.decode(errors="replace").strip().splitlines() or ["no reason"]
            message = f"the clustering process ended with {process.returncode}: {lines[-1]}"
            raise ChildProcessError(message)
        labels: Labels = await asyncio.to_thread(np.load, target)
        return labels


def name_groups(
    ids: Sequence[str], labels: "Labels", before: Mapping[str, str], *, collection_id: str
) -> dict[str, str]:
    """Give each cluster the id of the old cluster with which it shares most faces, or a new id.

    Old ids are assigned by decreasing overlap, each once. A new id derives from the smallest face
    id of the cluster. Returns face id -> cluster id.
    """
    groups: dict[int, list[str]] = {}
    for face, label in zip(ids, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(face)
    overlaps = Counter(
        (before[face], label) for label, faces in groups.items() for face in faces if face in before
    )
    names: dict[int, str] = {}
    taken: set[str] = set()
    for (old, label), _ in sorted(overlaps.items(), key=lambda item: (-item[1], item[0])):
        if label not in names and old not in taken:
            names[label] = old
            taken.add(old)
    space = uuid.UUID(collection_id)
    for label, faces in sorted(groups.items()):
        if label not in names:
            name = str(uuid.uuid5(space, min(faces)))
            # an old cluster may have the id that this face once gave it
            names[label] = name if name not in taken else str(uuid.uuid5(space, f"+{min(faces)}"))
            taken.add(names[label])
    return {face: names[label] for label, faces in groups.items() for face in faces}

"""Moves a collection to another embedding space without losing a face.

`backfill`: stored crops are embedded in the target, new faces are written to both spaces, searches
use the source. When every face is in both, checked by id and by a sample embedded again, searches
switch (`switched`). The source is kept for `rollback` until `finish` deletes it. Each step is
recorded before it is taken, so that a start after a crash continues there.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gateway.collections.base import CropEmbedder, Crops, Stores, index_of
from gateway.collections.enrol import point_of, remove_vectors
from gateway.collections.reconcile import Repair
from gateway.collections.refusals import Refusals
from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import AurumError, ConflictError
from gateway.records.encryption import DataCipher
from gateway.records.types import CollectionRecord, FaceRecord, Migration
from gateway.vectors.base import Vector
from triton_python_backend import contract

_BATCH = 32
_STEP_SECONDS = 60.0
_RETRIES = 5
_RETRY_SECONDS = 2.0
_SAMPLE = 32
_MIN_COSINE = 0.999
log = logging.getLogger(__name__)


class Migrations:
    """Starts, carries out, rolls back and finishes moves; owns their tasks."""

    def __init__(
        self,
        stores: Stores,
        embedder: CropEmbedder,
        cipher: DataCipher,
        repair: Repair,
        refusals: Refusals,
        background: BackgroundTasks,
        *,
        settle_seconds: float,
    ) -> None:
        self._stores = stores
        self._embedder = embedder
        self._cipher = cipher
        self._repair = repair
        self._refusals = refusals
        self._background = background
        # longer than any request: enrolments that began before the switch have ended by then
        self._settle_seconds = settle_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, collection: CollectionRecord, *, deadline: Deadline) -> Migration:
        """Start a move to the space of the newest model; a running move is returned instead.

        Raises ConflictError if there is nothing to move, or a face has no crop.
        """
        migration = collection.migration
        if migration is not None and migration.state != "failed":
            if migration.state == "backfill":
                self._go_on(collection)
            return migration
        if collection.space is None or collection.dimension is None:
            raise ConflictError("the collection has no faces yet and will use the newest space")
        target, dimension = await self._embedder.current_space(deadline=deadline)
        if target == collection.space:
            raise ConflictError(f"the collection already uses the newest space {target}")
        faces, _ = await self._stores.records.faces.count(collection.id)
        crops = await self._stores.records.faces.count_crops(collection.id)
        if crops < faces:
            message = (
                f"{faces - crops} of {faces} faces have no crop to embed again; "
                "only collections with keep=crop from the start can move"
            )
            raise ConflictError(message)
        if migration is not None and migration.target != target:
            await self._drop(collection, migration.target)
        await self._stores.vectors.create(index_of(collection, target), dimension=dimension)
        migration = Migration(collection.space, target, "backfill", faces, 0)
        await self._stores.records.collections.set_migration(collection.id, migration)
        self._go_on(replace(collection, migration=migration))
        return migration

    async def resume(self) -> None:
        """At start: continue moves that a crash or restart interrupted."""
        for collection in await self._stores.records.collections.all():
            migration = collection.migration
            if collection.state == "active" and migration and migration.state != "failed":
                self._go_on(collection)

    async def rollback(self, collection: CollectionRecord) -> None:
        """Return to the source: delete the copies and, after the switch, search the source again.

        Faces enrolled since the switch are embedded in the source first. Raises ConflictError if
        that is impossible.
        """
        migration = self._need(collection)
        await self._stop(collection.id)
        spaces = self._stores.records.face_spaces
        if migration.state == "switched":
            alone = await spaces.not_in_space(collection.id, migration.source, limit=_BATCH)
            while alone:
                await self._copy(collection, alone, space=migration.source)
                alone = await spaces.not_in_space(collection.id, migration.source, limit=_BATCH)
            info = await self._stores.vectors.info(index_of(collection, migration.source))
            await self._stores.records.collections.switch_space(
                collection.id,
                space=migration.source,
                dimension=info.dimension,
                migration=replace(migration, state="failed", detail="rolled back"),
            )
            await spaces.move_space(collection.id, source=migration.target, target=migration.source)
        else:
            failed = replace(migration, state="failed", detail="rolled back")
            await self._stores.records.collections.set_migration(collection.id, failed)
        await self._drop(collection, migration.target)

    async def finish(self, collection: CollectionRecord) -> None:
        """Delete the source for good; raises ConflictError before the switch."""
        migration = self._need(collection)
        if migration.state != "switched":
            raise ConflictError(f"the move is in state {migration.state}, not switched")
        await self._stop(collection.id)
        await self._sweep(collection, migration)
        await self._drop(collection, migration.source)

    async def close(self) -> None:
        """Stop the tasks; the next start continues the moves."""
        for collection_id in list(self._tasks):
            await self._stop(collection_id)

    def _need(self, collection: CollectionRecord) -> Migration:
        migration = collection.migration
        if migration is None or migration.state == "failed":
            raise ConflictError("the collection is not being moved")
        return migration

    async def _drop(self, collection: CollectionRecord, space: str) -> None:
        await self._stores.vectors.drop(index_of(collection, space))
        await self._stores.records.face_spaces.forget_copies(collection.id, space)
        await self._stores.records.collections.set_migration(collection.id, None)

    async def _stop(self, collection_id: str) -> None:
        task = self._tasks.pop(collection_id, None)
        if task is not None:
            await self._background.stop(task)

    def _go_on(self, collection: CollectionRecord) -> None:
        running = self._tasks.get(collection.id)
        if running is None or running.done():
            work = self._supervise(collection)
            self._tasks[collection.id] = self._background.start("migration", work)

    async def _supervise(self, collection: CollectionRecord) -> None:
        migration = collection.migration
        if migration is None:
            return
        try:
            if migration.state == "backfill":
                await self._move(collection, migration)
            await asyncio.sleep(self._settle_seconds)
            await self._sweep(collection, migration)
        except AurumError as error:
            await self._fail(collection, migration, error.detail)
        except Exception as error:  # the supervisor of this task
            log.exception("migration failed", extra={"collection": collection.name})
            await self._fail(collection, migration, str(error))

    async def _fail(self, collection: CollectionRecord, migration: Migration, detail: str) -> None:
        failed = replace(migration, state="failed", detail=detail)
        await self._stores.records.collections.set_migration(collection.id, failed)

    async def _move(self, collection: CollectionRecord, migration: Migration) -> None:
        # a crash may have lost a vector that the journal claims, so start from what exists
        drifts = [
            drift
            for drift in await self._repair.find_drift()
            if drift.index == index_of(collection, migration.target)
        ]
        await self._repair.mend(drifts)
        await self._backfill(collection, migration)
        await self._verify(collection, migration)
        await self._refusals.migrate(collection, migration.target)
        dimension = (
            await self._stores.vectors.info(index_of(collection, migration.target))
        ).dimension
        faces, _ = await self._stores.records.faces.count(collection.id)
        await self._stores.records.collections.switch_space(
            collection.id,
            space=migration.target,
            dimension=dimension,
            migration=replace(migration, state="switched", total=faces, done=faces),
        )
        await self._stores.records.face_spaces.move_space(
            collection.id, source=migration.source, target=migration.target
        )

    async def _sweep(self, collection: CollectionRecord, migration: Migration) -> None:
        """Copy faces that were enrolled during the switch, in the source only."""
        await self._backfill(collection, replace(migration, state="switched"))
        await self._stores.records.face_spaces.move_space(
            collection.id, source=migration.source, target=migration.target
        )

    async def _backfill(self, collection: CollectionRecord, migration: Migration) -> None:
        records = self._stores.records
        while faces := await records.face_spaces.not_in_space(
            collection.id, migration.target, limit=_BATCH
        ):
            await self._copy(collection, faces, space=migration.target)
            if migration.state == "backfill":
                total, _ = await records.faces.count(collection.id)
                done = await records.face_spaces.count_copied(collection.id, migration.target)
                step = replace(migration, total=total, done=done)
                await records.collections.set_migration(collection.id, step)

    async def _copy(
        self, collection: CollectionRecord, faces: Sequence[FaceRecord], *, space: str
    ) -> None:
        faces, crops = await self._with_crops(collection, faces)
        if not faces:
            return
        vectors = await self._embed(crops, space)
        points = [
            point_of(face, vector, tenant=collection.tenant)
            for face, vector in zip(faces, vectors, strict=True)
        ]
        index = index_of(collection, space)
        await self._stores.vectors.upsert(index, points)
        await self._stores.vectors.flush(index)
        # a face deleted meanwhile may have been removed from the target before this copy arrived;
        # one that is deleted from now on is removed after it
        ids = [face.id for face in faces]
        left = {face.id for face in await self._stores.records.faces.get(collection.id, ids)}
        if forgotten := [face for face in ids if face not in left]:
            await remove_vectors(self._stores, index, forgotten)
        await self._stores.records.face_spaces.mark_copied(ids, space)

    async def _with_crops(
        self, collection: CollectionRecord, faces: Sequence[FaceRecord]
    ) -> tuple[Sequence[FaceRecord], Crops]:
        """Read the crops of the faces that were not deleted meanwhile: [N,112,112,3] uint8."""
        records, ids = self._stores.records.faces, [face.id for face in faces]
        sealed = {crop.face_id: crop for crop in await records.crops(ids)}
        # read afterwards: a face that still exists had its crop before, or never had one
        faces = await records.get(collection.id, ids)
        missing = [face.id for face in faces if face.id not in sealed]
        if missing:
            raise ConflictError(f"{len(missing)} faces have no crop to embed again")
        shape = (contract.CROP_SIZE, contract.CROP_SIZE, 3)
        crops = [
            np.frombuffer(self._cipher.open(face.id, sealed[face.id].bytes_only), dtype=np.uint8)
            for face in faces
        ]
        return faces, np.asarray(crops, dtype=np.uint8).reshape(-1, *shape)

    async def _embed(self, crops: Crops, space: str) -> Vector:
        for attempt in range(_RETRIES):
            try:
                return await self._embedder.embed(
                    crops, space=space, deadline=Deadline.after(_STEP_SECONDS)
                )
            except ConflictError:
                raise
            except AurumError as error:
                if attempt == _RETRIES - 1:
                    raise
                log.warning("migration waits", extra={"reason": error.detail})
                await asyncio.sleep(_RETRY_SECONDS * (attempt + 1))
        raise ConflictError("the embedding stage does not answer")

    async def _verify(self, collection: CollectionRecord, migration: Migration) -> None:
        """Check that every face is in the target, and that a sample equals new embeddings."""
        index = index_of(collection, migration.target)
        for drift in await self._repair.find_drift():
            if drift.index == index and drift.missing:
                raise ConflictError(f"{len(drift.missing)} faces are missing in the target")
        sample = await self._stores.vectors.scroll(index, limit=_SAMPLE)
        ids = [point.face_id for point in sample.points]
        faces, crops = await self._with_crops(
            collection, await self._stores.records.faces.get(collection.id, ids)
        )
        if not faces:
            return
        stored = {point.face_id: point.vector for point in sample.points}
        again = await self._embed(crops, migration.target)
        cosines = [
            float(np.dot(stored[face.id], vector))
            for face, vector in zip(faces, again, strict=True)
        ]
        if min(cosines) < _MIN_COSINE:
            raise ConflictError(f"an embedding of the target changed: cosine {min(cosines):.4f}")

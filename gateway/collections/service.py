"""The collections: their settings, and the components that work on them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gateway.collections.admission import Admission
from gateway.collections.base import Actor, CropEmbedder, ImageForgetter, Stores, new_id
from gateway.collections.cluster_runs import Clusters
from gateway.collections.enrol import Enrolment
from gateway.collections.erase import RETENTION_CALLER, Forgetting
from gateway.collections.migrate import Migrations
from gateway.collections.people import People
from gateway.collections.reconcile import Repair
from gateway.collections.refusals import Refusals
from gateway.collections.sealing import Sealing
from gateway.collections.search import Search
from gateway.concurrency import BackgroundTasks
from gateway.errors import (
    AurumError,
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    StorageUnavailableError,
)
from gateway.records.encryption import DataCipher
from gateway.records.sealed_rows import KINDS
from gateway.records.types import CollectionRecord, CollectionSettings, FaceRecord
from gateway.security.quotas import NO_QUOTAS, QuotaLimits, Quotas
from gateway.thresholds import Thresholds
from gateway.types import Caller
from triton_python_backend import contract

_EXPIRED_AT_ONCE = 500
_STALE_SECONDS = 600.0
_GONE_SECONDS = 20.0
"""Age at which unfinished work of a dead process is removed, even if no request needs it."""
_SETTLE_SECONDS = 5.0
_UNDO_SECONDS = 2.0
"""Between two attempts to undo what a failed enrolment left."""
_MARGIN_SECONDS = 30.0
"""Longest difference between the clocks of two gateways, and time for undoing."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits and intervals from the settings."""

    max_metadata_entries: int
    max_enrol_images: int
    max_cluster_faces: int
    retention_interval_seconds: float
    request_timeout_seconds: float
    quotas: QuotaLimits = NO_QUOTAS


class Collections:
    """All that routes and commands do with collections."""

    def __init__(
        self,
        stores: Stores,
        embedder: CropEmbedder,
        cipher: DataCipher,
        cache: ImageForgetter,
        background: BackgroundTasks,
        thresholds: Thresholds,
        *,
        scratch: Path,
        limits: Limits,
    ) -> None:
        self.stores = stores
        self.limits = limits
        self.quotas = Quotas(stores.records.usage, limits.quotas)
        self._cipher = cipher
        self.enrolment = Enrolment(
            stores,
            embedder,
            cipher,
            longest_seconds=_MARGIN_SECONDS + 2 * limits.request_timeout_seconds,
        )
        self.refusals = Refusals(stores, embedder, cipher, thresholds)
        self.admission = Admission(stores, self.enrolment, self.refusals, self.quotas)
        self.search = Search(stores, embedder)
        self.forgetting = Forgetting(stores, cache)
        self.sealing = Sealing(stores)
        self.people = People(
            stores, self.search, self.forgetting, self.refusals, cipher, thresholds
        )
        self.repair = Repair(stores, self.forgetting)
        self.clusters = Clusters(
            stores, background, scratch=scratch, max_faces=limits.max_cluster_faces
        )
        self.migrations = Migrations(
            stores,
            embedder,
            cipher,
            self.repair,
            self.refusals,
            background,
            settle_seconds=limits.request_timeout_seconds + _SETTLE_SECONDS,
        )
        self._background = background

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Settle leftovers of a crash, run retention meanwhile, stop all tasks at the end."""
        repaired = await self.repair.settle()
        if repaired.anything:
            log.warning("settled after a crash", extra={"repaired": str(repaired)})
        await self.stores.records.idempotency.give_back_unfinished()
        await self.clusters.settle()
        await self.migrations.resume()
        try:
            async with (
                self._background.running(
                    "retention",
                    self._keep_house,
                    restart_seconds=self.limits.retention_interval_seconds,
                ),
                self._background.running("enrolments", self._keep_settling),
                self._background.running("cut-off-enrolments", self._keep_clearing),
                self._background.running("presence", self.stores.records.presence.keep_up),
            ):
                yield
        finally:
            await self.clusters.close()
            await self.migrations.close()
            await self._leave()

    async def create(
        self, caller: Caller, name: str, settings: CollectionSettings
    ) -> CollectionRecord:
        """Create an empty collection.

        Raises ConflictError if the name is taken, ForbiddenError if the caller is limited to other
        collections or the quota of its tenant is used up.
        """
        if not caller.sees(name):
            raise ForbiddenError(f"{caller.name} is limited to other collections")
        await self.quotas.check_collections(caller.tenant)
        now = time.time()
        record = CollectionRecord(
            id=new_id(),
            tenant=caller.tenant,
            name=name,
            state="active",
            settings=settings,
            space=None,
            dimension=None,
            migration=None,
            created_at=now,
            updated_at=now,
        )
        await self.stores.records.collections.add(record)
        return record

    async def change(
        self, collection: CollectionRecord, settings: CollectionSettings, actor: Actor
    ) -> CollectionRecord:
        """Replace the settings, for faces enrolled from now on.

        Switching `keep` to `none` deletes stored crops, also those that an earlier request left
        when it failed. Raises ConflictError while they are needed for a move.
        """
        records, at = self.stores.records, time.time()
        has_crops = settings.keep == "none" and await records.faces.count_crops(collection.id) > 0
        stops_keeping = has_crops or (collection.settings.keep, settings.keep) == ("crop", "none")
        if stops_keeping and collection.migration is not None:
            raise ConflictError("crops are needed until the move to another space is finished")
        if stops_keeping:
            # before the change, which would else stay without it
            await self.forgetting.note_crops(collection)
        await records.collections.change_settings(collection.id, settings, at=at)
        if stops_keeping:
            await self.forgetting.crops(collection, actor)
        changed = await self.stores.records.collections.get(collection.id)
        return collection if changed is None else changed

    async def kept_crop(self, collection: CollectionRecord, face_id: str) -> npt.NDArray[np.uint8]:
        """Return the stored crop of a face, [112,112,3] uint8 RGB.

        Raises NotFoundError if there is none, StorageUnavailableError if the key is wrong.
        """
        face = await self.stores.face(collection, face_id)
        sealed = await self.stores.records.faces.crops([face.id])
        if not sealed:
            why = (
                f"{collection.name} stores none (keep=none)"
                if collection.settings.keep == "none"
                else "it was enrolled as an embedding, or while the collection stored none"
            )
            raise NotFoundError(f"there is no crop of face {face.id}: {why}")
        try:
            pixels = self._cipher.open(face.id, sealed[0].bytes_only)
        except ConfigurationError as error:
            raise StorageUnavailableError(f"the crop cannot be opened: {error}") from error
        shape = (contract.CROP_SIZE, contract.CROP_SIZE, 3)
        return np.frombuffer(pixels, dtype=np.uint8).reshape(shape)

    async def forget_expired(self, *, at: float) -> int:
        """Delete every expired face; returns how many there were."""
        forgotten = 0
        while expired := await self.stores.records.faces.expired(at=at, limit=_EXPIRED_AT_ONCE):
            groups: dict[str, list[FaceRecord]] = {}
            for face in expired:
                groups.setdefault(face.collection_id, []).append(face)
            for collection_id, faces in groups.items():
                collection = await self.stores.records.collections.get(collection_id)
                if collection is not None:
                    actor = Actor(RETENTION_CALLER)
                    await self.forgetting.faces(collection, faces, actor, action="retention")
            forgotten += len(expired)
        await self.stores.records.subjects.drop_over(at)
        await self.stores.records.erasures.forget(at)
        return forgotten

    async def _keep_settling(self) -> None:
        while True:
            await asyncio.sleep(_UNDO_SECONDS)
            await self.enrolment.settle()

    async def _keep_clearing(self) -> None:
        while True:
            await asyncio.sleep(_GONE_SECONDS)
            try:
                await self.repair.settle_gone(older_than=time.time() - _GONE_SECONDS)
            except AurumError as error:
                log.warning("what was cut off is removed later", extra={"reason": error.detail})

    async def _leave(self) -> None:
        try:
            await self.stores.records.presence.leave()
        except AurumError as error:
            # the lease ends in a few seconds
            log.warning("the lease was not given up", extra={"reason": error.detail})

    async def _miss_keys(self) -> None:
        """Log what nobody can open: a storage key is missing, and nothing is lost yet."""
        for kind in KINDS:
            for key_id, number in (await self.stores.records.sealed.count(kind)).items():
                if not self._cipher.knows(key_id):
                    log.error(
                        "a storage key is missing",
                        extra={"key": key_id, "kind": kind.name, "unreadable": number},
                    )

    async def _keep_house(self) -> None:
        try:
            await self._miss_keys()
        except AurumError as error:
            log.warning("storage keys were not checked", extra={"reason": error.detail})
        while True:
            try:
                await self.forget_expired(at=time.time())
                await self.repair.settle(older_than=time.time() - _STALE_SECONDS)
                await self.quotas.forget_old()
                await self.sealing.run()
                await self.stores.records.idempotency.forget_old()
                await self.stores.records.presence.forget_gone()
                await self.stores.records.empty_log()
            except AurumError as error:
                # the stores are unavailable: the next run tries again
                log.warning("retention waits", extra={"reason": error.detail})
            await asyncio.sleep(self.limits.retention_interval_seconds)

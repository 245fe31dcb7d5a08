"""Reconciles vectors with records, at start and in `aurum vectors check`."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.collections.base import Actor, Stores, index_of
from gateway.collections.enrol import remove_vectors
from gateway.collections.erase import Forgetting, spaces_of
from gateway.records.types import CollectionRecord, FaceRecord
from gateway.types import Caller
from gateway.vectors.base import UnknownVectorCollectionError, VectorCollection

_PAGE = 1000
_FACES_AT_ONCE = 500
_REPAIR = Actor(Caller(tenant="", name="repair"))
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repaired:
    """Numbers of leftovers of a crash that were settled."""

    unacknowledged: int
    half_forgotten: int
    collections: int

    @property
    def anything(self) -> bool:
        """Whether there were leftovers."""
        return bool(self.unacknowledged or self.half_forgotten or self.collections)


@dataclass(frozen=True, slots=True)
class Drift:
    """Differences between the vectors and records of one collection.

    orphans: vectors without a face; missing: faces without a vector, by space.
    """

    collection: CollectionRecord | None
    index: VectorCollection
    orphans: tuple[str, ...]
    missing: tuple[str, ...]


class Repair:
    """Settles interrupted writes, and finds and repairs differences."""

    def __init__(self, stores: Stores, forgetting: Forgetting) -> None:
        self._stores = stores
        self._forgetting = forgetting

    async def settle(self, *, older_than: float | None = None) -> Repaired:
        """Remove what was never acknowledged, and finish deletions.

        older_than: leave younger journal lines alone, they may be under way (seconds since 1970).
        Without it, what other processes that live are enrolling is left alone.
        """
        before = time.time() + 1 if older_than is None else older_than
        records = self._stores.records
        # first: the process of a pending face may only have been paused, and commit it now
        pending = await records.unfinished.give_up(
            await records.faces.in_state("pending"), begun_before=older_than
        )
        await self._each(pending, self._remove)
        found = await records.faces.in_state("deleting")
        deleting = [face for face in found if face.created_at < before]
        await self._each(deleting, self._forgetting.finish)
        collections = 0
        for collection in await records.collections.all():
            if collection.state == "deleting" and collection.updated_at < before:
                await self._forgetting.finish_collection(collection)
                collections += 1
        return Repaired(len(pending), len(deleting), collections)

    async def settle_gone(self, *, older_than: float) -> None:
        """Remove what was begun before a time and never acknowledged, if its process is gone.

        A gateway that is started again within the lease of the one before leaves this for later.
        """
        records = self._stores.records
        old = [f for f in await records.faces.in_state("pending") if f.created_at < older_than]
        await self._each(await records.unfinished.give_up(old, begun_before=0.0), self._remove)

    async def _each(
        self,
        faces: Sequence[FaceRecord],
        work: Callable[[CollectionRecord, Sequence[FaceRecord]], Awaitable[object]],
    ) -> None:
        """Do work with the faces of each collection, some at a time."""
        groups: dict[str, list[FaceRecord]] = {}
        for face in faces:
            groups.setdefault(face.collection_id, []).append(face)
        for collection_id, together in groups.items():
            collection = await self._stores.records.collections.get(collection_id)
            if collection is None:
                continue
            for start in range(0, len(together), _FACES_AT_ONCE):
                await work(collection, together[start : start + _FACES_AT_ONCE])

    async def _remove(self, collection: CollectionRecord, faces: Sequence[FaceRecord]) -> None:
        ids = [face.id for face in faces]
        for space in spaces_of(collection, faces):
            await remove_vectors(self._stores, index_of(collection, space), ids)
        await self._stores.records.faces.remove(ids)

    async def find_drift(self) -> tuple[Drift, ...]:
        """Compare every vector collection with the records, id by id."""
        records = {
            (record.tenant, record.name): record
            for record in await self._stores.records.collections.all()
        }
        indexes = set(await self._stores.vectors.collections())
        for record in records.values():
            if record.space is not None:
                indexes.add(index_of(record, record.space))
        drifts = [
            await self._compare(
                records.get((index.tenant, index.collection)),
                index,
            )
            for index in sorted(indexes)
        ]
        return tuple(drift for drift in drifts if drift.orphans or drift.missing)

    async def _compare(self, record: CollectionRecord | None, index: VectorCollection) -> Drift:
        held = await self._vector_ids(index)
        if record is None:
            return Drift(None, index, tuple(sorted(held)), ())
        expected: set[str] = set()
        after = None
        faces = self._stores.records.faces
        while page := await faces.page(record.id, limit=_PAGE, after=after, over=True):
            expected |= {f.id for f in page if index.space in (f.space, f.copied_to)}
            after = (page[-1].created_at, page[-1].id)
        # a face may be being written right now: neither side is wrong then
        young = {f.id for f in await faces.in_state("pending")}
        orphans = held - expected - young
        return Drift(record, index, tuple(sorted(orphans)), tuple(sorted(expected - held)))

    async def _vector_ids(self, index: VectorCollection) -> set[str]:
        held: set[str] = set()
        cursor = None
        try:
            while True:
                page = await self._stores.vectors.scroll(index, limit=_PAGE, cursor=cursor)
                held |= {point.face_id for point in page.points}
                cursor = page.next_cursor
                if cursor is None:
                    return held
        except UnknownVectorCollectionError:
            return held

    async def mend(self, drifts: Sequence[Drift]) -> None:
        """Remove vectors without a record, and faces whose vector is lost.

        A face that has a vector in another space only loses its claim to this one.
        """
        for drift in drifts:
            if drift.collection is None:
                await self._stores.vectors.drop(drift.index)
                continue
            await remove_vectors(self._stores, drift.index, drift.orphans)
            await self._mend_missing(drift.collection, drift)

    async def _mend_missing(self, collection: CollectionRecord, drift: Drift) -> None:
        faces = await self._stores.records.faces.get(collection.id, drift.missing, over=True)
        copies = [f for f in faces if f.space != drift.index.space]
        await self._stores.records.face_spaces.mark_copied([f.id for f in copies], None)
        lost = [f for f in faces if f.space == drift.index.space]
        if lost:
            spaces = spaces_of(collection, lost)
            log.warning("faces without a vector are removed", extra={"spaces": spaces})
            await self._forgetting.faces(collection, lost, _REPAIR, action="repair")

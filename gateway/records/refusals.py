"""Faces that a collection does not enrol: sealed embeddings, with a reason and a date.

Each change of a list is counted in its collection. Whoever writes new faces names the count with
which they were compared, so that an entry holds from the moment at which it is acknowledged.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import InvalidRequestError, NotFoundError
from gateway.records.database import Database
from gateway.records.erasures import lock_collection
from gateway.records.people_tables import REFUSED_CROPS, REFUSED_FACES
from gateway.records.tables import COLLECTIONS
from gateway.records.types import SealedBytes

MOST_ENTRIES = 10_000
"""Of a collection: they are compared with every face, in memory."""


@dataclass(frozen=True, slots=True)
class RefusedFace:
    """An entry. vector: sealed float32 numbers in `space`; crop: the sealed aligned face, if kept.

    created_at: seconds since 1970, UTC.
    """

    id: str
    space: str
    reason: str
    created_at: float
    created_by: str
    vector: SealedBytes
    crop: SealedBytes | None = None


class RefusalRecords:
    """The lists of all collections."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, collection_id: str, entries: Sequence[RefusedFace]) -> None:
        """Add entries; raises NotFoundError without the collection.

        Raises InvalidRequestError if the list would be too long.
        """
        async with self._database.write() as connection:
            await _change(connection, collection_id)
            mine = REFUSED_FACES.c.collection_id == collection_id
            held = await connection.scalar(select(func.count()).where(mine))
            if (held or 0) + len(entries) > MOST_ENTRIES:
                raise InvalidRequestError(f"a list has {MOST_ENTRIES} entries at most")
            rows = [
                {
                    "id": each.id,
                    "collection_id": collection_id,
                    "space": each.space,
                    "reason": each.reason,
                    "created_at": each.created_at,
                    "created_by": each.created_by[:64],
                    **_sealed(each.vector),
                }
                for each in entries
            ]
            await connection.execute(insert(REFUSED_FACES), rows)
            crops = [
                {"refusal_id": each.id, **_sealed(each.crop)}
                for each in entries
                if each.crop is not None
            ]
            if crops:
                await connection.execute(insert(REFUSED_CROPS), crops)

    async def page(
        self, collection_id: str, *, limit: int, after: tuple[float, str] | None = None
    ) -> tuple[RefusedFace, ...]:
        """Return entries, oldest first, behind (created_at, id)."""
        at, entry_id = REFUSED_FACES.c.created_at, REFUSED_FACES.c.id
        query = _entries().where(REFUSED_FACES.c.collection_id == collection_id)
        if after is not None:
            later = and_(at == after[0], entry_id > after[1])
            query = query.where(or_(at > after[0], later))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(at, entry_id).limit(limit))
            return tuple(_entry(row) for row in rows.mappings())

    async def all(self, collection_id: str) -> tuple[int, tuple[RefusedFace, ...]]:
        """Return the list, and the number of its changes so far."""
        count = select(COLLECTIONS.c.refusals).where(COLLECTIONS.c.id == collection_id)
        query = _entries().where(REFUSED_FACES.c.collection_id == collection_id)
        async with self._database.read() as connection:
            # the count first: an entry that comes in between is compared with once more
            changes = await connection.scalar(count)
            rows = await connection.execute(query.order_by(REFUSED_FACES.c.id))
            return changes or 0, tuple(_entry(row) for row in rows.mappings())

    async def remove(self, collection_id: str, entry_id: str) -> RefusedFace:
        """Remove an entry and return it; raises NotFoundError."""
        mine = and_(REFUSED_FACES.c.collection_id == collection_id, REFUSED_FACES.c.id == entry_id)
        async with self._database.write() as connection:
            await _change(connection, collection_id)
            row = (await connection.execute(_entries().where(mine))).mappings().first()
            if row is None:
                raise NotFoundError(f"the list has no entry {entry_id[:64]!r}")
            await connection.execute(
                delete(REFUSED_CROPS).where(REFUSED_CROPS.c.refusal_id == entry_id)
            )
            await connection.execute(delete(REFUSED_FACES).where(mine))
        return _entry(row)

    async def move(self, collection_id: str, entries: Collection[RefusedFace]) -> None:
        """Write entries that were embedded in another space."""
        async with self._database.write() as connection:
            await _change(connection, collection_id)
            for each in entries:
                query = update(REFUSED_FACES).where(REFUSED_FACES.c.id == each.id)
                values = {"space": each.space, **_sealed(each.vector)}
                await connection.execute(query.values(values))


async def _change(connection: AsyncConnection, collection_id: str) -> None:
    if not await lock_collection(connection, collection_id):
        raise NotFoundError("the collection was just deleted")
    mine = COLLECTIONS.c.id == collection_id
    counted = update(COLLECTIONS).where(mine).values(refusals=COLLECTIONS.c.refusals + 1)
    await connection.execute(counted)


def _entries() -> Select[Any]:
    crop = REFUSED_CROPS
    return select(
        REFUSED_FACES,
        crop.c.key_id.label("crop_key_id"),
        crop.c.nonce.label("crop_nonce"),
        crop.c.sealed.label("crop_sealed"),
    ).select_from(REFUSED_FACES.outerjoin(crop, crop.c.refusal_id == REFUSED_FACES.c.id))


def _sealed(sealed: SealedBytes) -> dict[str, object]:
    return {"key_id": sealed.key_id, "nonce": sealed.nonce, "sealed": sealed.sealed}


def _entry(row: Mapping[Any, Any]) -> RefusedFace:
    crop = None
    if row["crop_sealed"] is not None:
        crop = SealedBytes(row["crop_key_id"], row["crop_nonce"], row["crop_sealed"])
    return RefusedFace(
        id=row["id"],
        space=row["space"],
        reason=row["reason"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        vector=SealedBytes(row["key_id"], row["nonce"], row["sealed"]),
        crop=crop,
    )

"""In which embedding spaces faces have vectors, while a collection moves to another one."""

from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select, update

from gateway.records import clock
from gateway.records.database import Database
from gateway.records.face_rows import FaceRows, committed
from gateway.records.metadata_seal import MetadataSeal
from gateway.records.subjects import living
from gateway.records.tables import FACES
from gateway.records.types import FaceRecord


class FaceSpaceRecords:
    """The space of each face, and the second one to which a move has copied it."""

    def __init__(self, database: Database, seal: MetadataSeal | None = None) -> None:
        """Read and mark faces of a database. seal: of their metadata."""
        self._database = database
        self._rows = FaceRows(database, seal or MetadataSeal())

    async def count_copied(self, collection_id: str, space: str) -> int:
        """Return the number of faces with a vector in `space`, enrolled there or copied."""
        query = select(func.count()).where(
            FACES.c.collection_id == collection_id,
            living(clock.now()),
            or_(FACES.c.space == space, FACES.c.copied_to == space),
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def not_in_space(
        self, collection_id: str, space: str, *, limit: int, after: str = ""
    ) -> tuple[FaceRecord, ...]:
        """Return faces without a vector in `space`, by id."""
        return await self._rows.all(
            committed(collection_id)
            .where(
                FACES.c.space != space,
                or_(FACES.c.copied_to.is_(None), FACES.c.copied_to != space),
                FACES.c.id > after,
            )
            .order_by(FACES.c.id)
            .limit(limit)
        )

    async def mark_copied(self, face_ids: Sequence[str], space: str | None) -> None:
        """Mark faces that have a vector in a second space; None removes the mark."""
        await self._rows.change(face_ids, {"copied_to": space})

    async def move_space(self, collection_id: str, *, source: str, target: str) -> None:
        """Swap space and copy of the faces in both: `target` becomes the space, after a switch."""
        both = and_(
            FACES.c.collection_id == collection_id,
            FACES.c.space == source,
            FACES.c.copied_to == target,
        )
        async with self._database.write() as connection:
            await connection.execute(
                update(FACES).where(both).values(space=target, copied_to=source)
            )

    async def forget_copies(self, collection_id: str, space: str) -> None:
        """Remove the marks of copies in `space`."""
        query = (
            update(FACES)
            .where(FACES.c.collection_id == collection_id, FACES.c.copied_to == space)
            .values(copied_to=None)
        )
        async with self._database.write() as connection:
            await connection.execute(query)

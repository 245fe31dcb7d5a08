"""Faces whose enrolment has not ended: given up by others, withdrawn by whoever began it."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records.database import Database
from gateway.records.presence import is_gone
from gateway.records.tables import FACES
from gateway.records.types import FaceRecord

_IDS_AT_ONCE = 500


class UnfinishedFaces:
    """Marks pending faces as being deleted; their enrolment can be acknowledged no more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give_up(
        self, faces: Sequence[FaceRecord], *, begun_before: float | None
    ) -> tuple[FaceRecord, ...]:
        """Mark those of pending faces with which nobody goes on; returns them.

        Their process may still live, if it was paused: it finds out when it commits. These are
        faces of processes that are gone, and faces that were begun before a time (seconds since
        1970). None is for a process that starts: all faces but those of processes that live, and
        really all in a database of one writer.
        """
        left = or_(is_gone(FACES.c.owner, self._database), self._old(begun_before))
        given_up: set[str] = set()
        for part in _parts(faces):
            mine = and_(FACES.c.id.in_(part), FACES.c.state == "pending", left)
            # most often there is none, and to look keeps nobody from writing
            async with self._database.read() as connection:
                if await connection.scalar(select(FACES.c.id).where(mine).limit(1)) is None:
                    continue
            async with self._database.write() as connection:
                given_up.update(await _mark(connection, mine))
        return tuple(face for face in faces if face.id in given_up)

    async def withdraw(self, faces: Sequence[FaceRecord]) -> bool:
        """Mark the faces of an enrolment that failed; False if they exist.

        Its commit succeeded then, though it did not learn that.
        """
        existing = 0
        async with self._database.write() as connection:
            for part in _parts(faces):
                mine = FACES.c.id.in_(part)
                await _mark(connection, and_(mine, FACES.c.state == "pending"))
                # a statement of its own: it sees the transaction for which the other one waited
                query = select(func.count()).where(mine, FACES.c.state == "committed")
                existing += (await connection.execute(query)).scalar_one()
        return existing == 0

    def _old(self, begun_before: float | None) -> ColumnElement[bool]:
        if begun_before is not None:
            return FACES.c.created_at < begun_before
        return true() if self._database.has_one_writer else FACES.c.owner.is_(None)


async def _mark(connection: AsyncConnection, which: ColumnElement[bool]) -> Sequence[str]:
    query = update(FACES).where(which).values(state="deleting", claim=None)
    marked: Sequence[str] = (await connection.scalars(query.returning(FACES.c.id))).all()
    return marked


def _parts(faces: Sequence[FaceRecord]) -> list[list[str]]:
    ids = [face.id for face in faces]
    return [ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE)]

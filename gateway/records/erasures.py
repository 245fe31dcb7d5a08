"""Erasures that must be obeyed by what was begun before them.

An enrolment that is under way, and a job that is running, must not bring back what was erased
meanwhile. So each erasure is noted before anything is deleted. Whoever writes new faces reads the
notes in the same transaction and says since when it is under way.

A note has no name and no image: it is a SHA-256 that is salted with the id of the collection, or
with the tenant where it concerns all its uploads.
"""

import hashlib
from collections.abc import Collection, Sequence

from sqlalchemy import and_, delete, exists, not_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import EnrolmentRefusedError
from gateway.records import clock
from gateway.records.database import Database
from gateway.records.job_erasure import Unfinished
from gateway.records.job_tables import JOBS
from gateway.records.people_tables import ERASURES
from gateway.records.tables import COLLECTIONS, FACES
from gateway.records.types import FaceRecord

KEPT_SECONDS = 86_400.0
"""How long a note is kept at least; longer while a job that was made before it has not expired."""
_AT_ONCE = 500


class ErasureRecords:
    """Notes of erasures by collection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(
        self,
        collection_id: str,
        *,
        subjects: Collection[str] = (),
        images: Collection[str] = (),
        unfinished: Unfinished = "none",
    ) -> frozenset[str]:
        """Note that subjects and images (SHA-256) of a collection are being erased.

        From now on, nothing that was begun before can enrol them. Returns the ids of faces that
        are being enrolled right now: they can no longer be committed, and whoever enrols them
        removes them.

        unfinished: which uploads that were begun before lose these images when they end.
        """
        at = clock.now()
        digests = {_digest(collection_id, "subject", name) for name in subjects}
        digests |= {_digest(collection_id, "image", image) for image in images}
        if not digests:
            return frozenset()
        if unfinished != "none":
            digests |= {named_in_upload(collection_id, name) for name in subjects}
            digests |= {shown_in_upload(collection_id, image) for image in images}
        async with self._database.write() as connection:
            await lock_collection(connection, collection_id)
            if unfinished == "all":
                query = select(COLLECTIONS.c.tenant).where(COLLECTIONS.c.id == collection_id)
                tenant: str = (await connection.execute(query)).scalar_one()
                digests |= {shown_in_any_upload(tenant, image) for image in images}
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            insert = dialect.insert(ERASURES)
            again = insert.on_conflict_do_update(
                index_elements=[ERASURES.c.collection_id, ERASURES.c.digest],
                set_={"erased_at": insert.excluded.erased_at},
            )
            rows = [
                {"collection_id": collection_id, "digest": each, "erased_at": at}
                for each in sorted(digests)
            ]
            await connection.execute(again, rows)
            named = or_(
                FACES.c.subject.in_(sorted(subjects)), FACES.c.image_sha256.in_(sorted(images))
            )
            begun = and_(FACES.c.collection_id == collection_id, FACES.c.state == "pending", named)
            stopped = update(FACES).where(begun).values(state="deleting", claim=None)
            return frozenset((await connection.execute(stopped.returning(FACES.c.id))).scalars())

    async def forbids(self, faces: Sequence[FaceRecord], begun_at: float | None) -> bool:
        """Whether one of these faces was erased since."""
        async with self._database.read() as connection:
            try:
                await refuse_erased(connection, faces, begun_at)
            except EnrolmentRefusedError:
                return True
        return False

    async def left(self, face_ids: Collection[str]) -> int:
        """Return how many of these faces still have a journal line."""
        query = select(FACES.c.id).where(FACES.c.id.in_(sorted(face_ids)))
        async with self._database.read() as connection:
            return len((await connection.execute(query)).all())

    async def forget(self, now: float) -> int:
        """Remove notes that no job needs any more; returns their number."""
        enrols = and_(JOBS.c.collection_id == ERASURES.c.collection_id, JOBS.c.state != "expired")
        older = and_(
            or_(enrols, JOBS.c.state == "receiving"), JOBS.c.created_at <= ERASURES.c.erased_at
        )
        needed = exists(select(JOBS.c.id).where(older).correlate(ERASURES))
        old = ERASURES.c.erased_at < now - KEPT_SECONDS
        async with self._database.write() as connection:
            return (await connection.execute(delete(ERASURES).where(old, not_(needed)))).rowcount


async def hold_collection(connection: AsyncConnection, collection_id: str) -> int | None:
    """Keep erasures and the list of refusals as they are until the transaction ends.

    Returns the number of changes of that list; None without the collection.
    """
    query = select(COLLECTIONS.c.refusals).where(COLLECTIONS.c.id == collection_id)
    refusals: int | None = await connection.scalar(query.with_for_update(read=True, key_share=True))
    return refusals


async def refuse_erased(
    connection: AsyncConnection, faces: Sequence[FaceRecord], begun_at: float | None
) -> None:
    """Raise EnrolmentRefusedError if one of the faces, or its image, was erased since."""
    if begun_at is None or not faces:
        return
    collection_id = faces[0].collection_id
    digests = {_digest(collection_id, "subject", face.subject) for face in faces}
    images = {face.image_sha256 for face in faces if face.image_sha256 is not None}
    digests |= {_digest(collection_id, "image", image) for image in images}
    asked = sorted(digests)
    for start in range(0, len(asked), _AT_ONCE):
        query = select(ERASURES.c.digest).where(
            ERASURES.c.collection_id == collection_id,
            ERASURES.c.digest.in_(asked[start : start + _AT_ONCE]),
            ERASURES.c.erased_at > begun_at,
        )
        if await connection.scalar(query.limit(1)) is not None:
            raise EnrolmentRefusedError("it was erased after this request or job was made")


async def lock_collection(connection: AsyncConnection, collection_id: str) -> bool:
    """Wait for enrolments that hold the collection, and let none begin; False without it."""
    query = select(COLLECTIONS.c.id).where(COLLECTIONS.c.id == collection_id)
    return await connection.scalar(query.with_for_update()) is not None


def named_in_upload(collection_id: str, subject: str) -> str:
    """Return the note for uploads that enrol into the collection and name this subject."""
    return _digest(collection_id, "subject of an upload", subject)


def shown_in_upload(collection_id: str, image: str) -> str:
    """Return the note for uploads that enrol into the collection and have this image."""
    return _digest(collection_id, "image of an upload", image)


def shown_in_any_upload(tenant: str, image: str) -> str:
    """Return the note for all uploads of a tenant that have this image."""
    return _digest(tenant, "image of any upload", image)


def _digest(salt: str, kind: str, name: str) -> str:
    return hashlib.sha256(f"{salt}\0{kind}\0{name}".encode()).hexdigest()

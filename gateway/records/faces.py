"""The journal of faces, with their encrypted crops."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import and_, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records import clock
from gateway.records.admission import admit, is_outdated
from gateway.records.database import Database
from gateway.records.face_rows import COLUMNS, FaceRows, committed, parts
from gateway.records.idempotency import keep
from gateway.records.metadata_seal import MetadataSeal, face_name, otherwise_sealed
from gateway.records.presence import Presence
from gateway.records.subjects import drop_records, faceless, living, lock_records
from gateway.records.tables import ANSWERED_FACES, CROPS, FACES, IDEMPOTENCY, SUBJECTS
from gateway.records.types import Begun, FaceRecord, KeptAnswer, SealedCrop, Terms

_NO_TERMS = Terms()
_ALL_CROPS_SECONDS = 60.0


class _NotPendingError(Exception):
    """Undoes a transaction that would mark faces which are gone."""


class FaceRecords:
    """Faces by id, subject, image and state.

    A face exists once it is committed and until its time is over. `over=True` asks also for those
    whose time is over and that are not forgotten yet.
    """

    def __init__(
        self, database: Database, presence: Presence, seal: MetadataSeal | None = None
    ) -> None:
        """Keep faces in a database. presence: of whoever enrols them. seal: of their metadata."""
        self._database = database
        self._presence = presence
        self._seal = seal or MetadataSeal()
        self._rows = FaceRows(database, self._seal)

    @property
    def seals(self) -> bool:
        """Whether metadata is sealed when it is written."""
        return self._seal.is_on

    async def otherwise_sealed(self, *, limit: int) -> tuple[FaceRecord, ...]:
        """Return faces with metadata that is sealed though it should not be, or the reverse."""
        query = select(*COLUMNS).where(
            FACES.c.state == "committed", otherwise_sealed(FACES, is_on=self._seal.is_on)
        )
        return await self._rows.all(query.limit(limit))

    async def seal_again(self, face_ids: Sequence[str]) -> None:
        """Write the metadata of faces as it should be, sealed or not."""
        async with self._database.write() as connection:
            for part in parts(face_ids):
                query = select(*COLUMNS).where(FACES.c.id.in_(part)).order_by(FACES.c.id)
                rows = (await connection.execute(query.with_for_update())).mappings().all()
                for row in rows:
                    face = self._rows.record(row)
                    stored = self._seal.write(face_name(face.id), face.metadata)
                    values = {"metadata": stored.value, "metadata_key_id": stored.key_id}
                    query_again = update(FACES).where(FACES.c.id == face.id)
                    await connection.execute(query_again.values(values))

    async def begin(
        self,
        faces: Sequence[FaceRecord],
        crops: Sequence[SealedCrop] = (),
        terms: Terms = _NO_TERMS,
    ) -> Begun:
        """Write journal lines and crops of one collection before the vectors are written.

        Holds within `Presence.lasting`: another process gives up what one without a lease began.
        Images that the collection remembers for their subject are left out. Raises IntegrityError
        where another transaction was first with one of the images, or without the collection;
        EnrolmentRefusedError or ConsentRequiredError where the terms do not allow it.
        """
        if not faces:
            return Begun()
        async with self._database.write() as connection:
            if await is_outdated(connection, faces[0].collection_id, terms):
                return Begun(outdated=True)
            known = await self._known(connection, faces)
            pending = {f.id: f for found in known.values() for f in found if f.state == "pending"}
            if pending:
                return Begun(busy=True, pending=tuple(pending.values()))
            new = [face for face in faces if face.claim not in known]
            if new:
                owner = self._presence.id
                more = {face.id: {"kept_until": face.expires_at, "owner": owner} for face in new}
                new = await admit(connection, new, terms)
                rows = [row | more[row["id"]] for row in self._new_rows(new)]
                await connection.execute(insert(FACES), rows)
            written = {face.id for face in new}
            sealed = [_crop_row(crop) for crop in crops if crop.face_id in written]
            if sealed:
                await connection.execute(insert(CROPS), sealed)
        return Begun(tuple(new), known)

    async def commit(self, face_ids: Sequence[str], *, kept: KeptAnswer | None = None) -> bool:
        """Mark pending faces whose vectors are on the disk; from now on they exist.

        kept: the answer that names them; raises as `idempotency.keep`. Returns False, and marks
        none, if one is pending no longer: another process took this one for dead and gave it up.
        """
        try:
            async with self._database.write() as connection:
                await _commit(connection, face_ids)
                if kept is not None:
                    await keep(connection, kept)
        except _NotPendingError:
            return False
        return True

    async def begin_forgetting(self, face_ids: Sequence[str]) -> None:
        """Mark faces as deleted; from now on they do not exist, even if a crash follows."""
        await self._rows.change(face_ids, {"state": "deleting", "claim": None})

    async def remove(self, face_ids: Sequence[str]) -> int:
        """Remove faces, crops and kept answers that name them; returns the number of crops.

        A subject's record is removed with its last face, a kept one only if the face had expired.
        """
        crops, at = 0, clock.now()
        columns = (FACES.c.collection_id, FACES.c.subject, FACES.c.expires_at)
        async with self._database.write() as connection:
            for part in parts(face_ids):
                gone = select(*columns).where(FACES.c.id.in_(part))
                rows = (await connection.execute(gone)).all()
                subjects = {(row.collection_id, row.subject) for row in rows}
                over = {
                    (row.collection_id, row.subject)
                    for row in rows
                    if row.expires_at is not None and row.expires_at <= at
                }
                await lock_records(connection, subjects)
                # the foreign key would cascade, but the receipt needs the number
                removed = await connection.execute(delete(CROPS).where(CROPS.c.face_id.in_(part)))
                crops += removed.rowcount
                naming = (
                    select(ANSWERED_FACES.c.tenant, ANSWERED_FACES.c.key)
                    .where(ANSWERED_FACES.c.face_id.in_(part))
                    .distinct()
                )
                await connection.execute(
                    update(IDEMPOTENCY)
                    .where(tuple_(IDEMPOTENCY.c.tenant, IDEMPOTENCY.c.key).in_(naming))
                    .values(body=None)
                )
                await connection.execute(delete(FACES).where(FACES.c.id.in_(part)))
                await drop_records(connection, subjects, kept=False)
                await drop_records(connection, over, kept=True)
        return crops

    async def get(
        self, collection_id: str, face_ids: Sequence[str], *, over: bool = False
    ) -> tuple[FaceRecord, ...]:
        """Return the faces with these ids."""
        found: list[FaceRecord] = []
        query = committed(collection_id, over=over)
        for part in parts(face_ids):
            found += await self._rows.all(query.where(FACES.c.id.in_(part)))
        return tuple(found)

    async def of_subject(self, collection_id: str, subject: str) -> tuple[FaceRecord, ...]:
        """Return all faces of a subject."""
        return await self._rows.all(committed(collection_id).where(FACES.c.subject == subject))

    async def of_image(self, collection_id: str, image_sha256: str) -> tuple[FaceRecord, ...]:
        """Return all faces of an image."""
        return await self._rows.all(
            committed(collection_id).where(FACES.c.image_sha256 == image_sha256)
        )

    async def in_state(self, state: Literal["pending", "deleting"]) -> tuple[FaceRecord, ...]:
        """Return all faces in a state, for the repair at start."""
        # the second condition makes the query use the partial index
        query = select(*COLUMNS).where(FACES.c.state == state, FACES.c.state != "committed")
        return await self._rows.all(query)

    async def expired(
        self,
        *,
        at: float,
        limit: int,
        collection_id: str | None = None,
        subject: str | None = None,
    ) -> tuple[FaceRecord, ...]:
        """Return expired faces that are not deleted yet, of all collections or of one."""
        query = select(*COLUMNS).where(FACES.c.state == "committed", FACES.c.expires_at <= at)
        if collection_id is not None:
            query = query.where(FACES.c.collection_id == collection_id)
        if subject is not None:
            query = query.where(FACES.c.subject == subject)
        return await self._rows.all(query.limit(limit))

    async def over_ids(self, collection_id: str, *, at: float) -> tuple[str, ...]:
        """Return ids of expired faces, whose vectors may still exist."""
        query = select(FACES.c.id).where(
            FACES.c.collection_id == collection_id, FACES.c.expires_at <= at
        )
        async with self._database.read() as connection:
            return tuple((await connection.execute(query)).scalars())

    async def page(
        self,
        collection_id: str,
        *,
        limit: int,
        after: tuple[float, str] | None = None,
        subject: str | None = None,
        over: bool = False,
    ) -> tuple[FaceRecord, ...]:
        """Return faces, oldest first, behind (time, id)."""
        query = committed(collection_id, over=over)
        query = query.order_by(FACES.c.created_at, FACES.c.id).limit(limit)
        if after is not None:
            at, face_id = after
            later = and_(FACES.c.created_at == at, FACES.c.id > face_id)
            query = query.where(or_(FACES.c.created_at > at, later))
        if subject is not None:
            query = query.where(FACES.c.subject == subject)
        return await self._rows.all(query)

    async def ids(self, collection_id: str) -> frozenset[str]:
        """Return the ids of all faces of a collection."""
        query = select(FACES.c.id).where(
            FACES.c.collection_id == collection_id, living(clock.now())
        )
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def count(self, collection_id: str) -> tuple[int, int]:
        """Return the numbers of faces and subjects of a collection."""
        at = clock.now()
        query = select(func.count(), func.count(FACES.c.subject.distinct())).where(
            FACES.c.collection_id == collection_id, living(at)
        )
        others = select(func.count()).select_from(SUBJECTS).where(faceless(collection_id, at))
        async with self._database.read() as connection:
            faces, subjects = (await connection.execute(query)).one()
            return faces, subjects + (await connection.execute(others)).scalar_one()

    async def crops(self, face_ids: Sequence[str]) -> tuple[SealedCrop, ...]:
        """Return the encrypted crops of these faces."""
        found: list[SealedCrop] = []
        async with self._database.read() as connection:
            for part in parts(face_ids):
                query = select(CROPS).where(CROPS.c.face_id.in_(part))
                rows = (await connection.execute(query)).mappings().all()
                found += [SealedCrop(**row) for row in rows]
        return tuple(found)

    async def count_crops(self, collection_id: str) -> int:
        """Return how many faces of a collection have a stored crop."""
        query = (
            select(func.count())
            .select_from(CROPS.join(FACES, CROPS.c.face_id == FACES.c.id))
            .where(FACES.c.collection_id == collection_id, living(clock.now()))
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def remove_crops(self, collection_id: str) -> int:
        """Remove all crops of a collection, but not its faces; returns how many there were."""
        own = select(FACES.c.id).where(FACES.c.collection_id == collection_id)
        async with self._database.write(most_seconds=_ALL_CROPS_SECONDS) as connection:
            removed = await connection.execute(delete(CROPS).where(CROPS.c.face_id.in_(own)))
        return removed.rowcount

    async def _known(
        self, connection: AsyncConnection, faces: Sequence[FaceRecord]
    ) -> dict[str, tuple[FaceRecord, ...]]:
        """Return by claim the faces that were or are being enrolled from the images of new ones.

        An image without a subject counts as known for every subject.
        """
        at = clock.now()
        digests = sorted({face.image_sha256 for face in faces if face.image_sha256 is not None})
        of_image: dict[str, list[FaceRecord]] = {}
        for part in parts(digests):
            query = select(*COLUMNS).where(
                FACES.c.collection_id == faces[0].collection_id,
                FACES.c.image_sha256.in_(part),
                or_(living(at), FACES.c.state == "pending"),
            )
            for row in (await connection.execute(query.order_by(FACES.c.id))).mappings():
                of_image.setdefault(row["image_sha256"], []).append(self._rows.record(row))
        known: dict[str, tuple[FaceRecord, ...]] = {}
        for face in faces:
            if face.claim is not None and face.claim not in known:
                found = of_image.get(face.image_sha256 or "", [])
                named = face.subject != face.id
                same = tuple(each for each in found if not named or each.claim == face.claim)
                if same:
                    known[face.claim] = same
        return known

    def _new_rows(self, faces: Sequence[FaceRecord]) -> list[dict[str, Any]]:
        """Make the rows of new faces; the first of each image and subject claims the image.

        Sorted by claim, so that of two transactions one waits instead of both deadlocking.
        """
        first: dict[str, str] = {}
        for face in faces:
            if face.claim is not None:
                first.setdefault(face.claim, face.id)
        rows = [self._rows.row(face) | {"claim": None} for face in faces]
        for row, face in zip(rows, faces, strict=True):
            if face.claim is not None and first[face.claim] == face.id:
                row["claim"] = face.claim
        return sorted(rows, key=lambda row: row["claim"] or "")


async def _commit(connection: AsyncConnection, face_ids: Sequence[str]) -> None:
    """Mark pending faces as committed; raises _NotPendingError if one of them is not pending."""
    marked = 0
    for part in parts(face_ids):
        mine = and_(FACES.c.id.in_(part), FACES.c.state == "pending")
        query = update(FACES).where(mine).values(state="committed")
        marked += (await connection.execute(query)).rowcount
    if marked != len(face_ids):
        raise _NotPendingError


def _crop_row(crop: SealedCrop) -> dict[str, Any]:
    return {
        "face_id": crop.face_id,
        "key_id": crop.key_id,
        "nonce": crop.nonce,
        "sealed": crop.sealed,
    }

"""Rank 2: the journal of faces, with their encrypted crops."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.engine import RowMapping

from gateway.records.database import Database
from gateway.records.models import FaceRecord, FaceState, SealedCrop
from gateway.records.tables import ANSWERED_FACES, CROPS, FACES, IDEMPOTENCY

_IDS_AT_ONCE = 500


class FaceRecords:
    """Faces by id, subject, image and state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, faces: Sequence[FaceRecord], crops: Sequence[SealedCrop] = ()) -> None:
        """Write journal lines and crops before the vectors are written."""
        if not faces:
            return
        async with self._database.write() as connection:
            await connection.execute(insert(FACES), [_row(face) for face in faces])
            if crops:
                await connection.execute(insert(CROPS), [_crop_row(crop) for crop in crops])

    async def commit(self, face_ids: Sequence[str]) -> None:
        """Say that the vectors are on the disk; from now on the faces exist."""
        await self._set_state(face_ids, "committed")

    async def begin_forgetting(self, face_ids: Sequence[str]) -> None:
        """From now on the faces do not exist, whatever happens before they are removed."""
        await self._set_state(face_ids, "deleting")

    async def remove(self, face_ids: Sequence[str]) -> int:
        """Remove lines, crops and kept answers that name them; returns how many crops."""
        crops = 0
        async with self._database.write() as connection:
            for part in _parts(face_ids):
                # the foreign key would cascade, but the receipt counts
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
        return crops

    async def get(self, collection_id: str, face_ids: Sequence[str]) -> tuple[FaceRecord, ...]:
        """The committed faces of these ids."""
        found: list[FaceRecord] = []
        for part in _parts(face_ids):
            found += await self._all(_committed(collection_id).where(FACES.c.id.in_(part)))
        return tuple(found)

    async def of_subject(self, collection_id: str, subject: str) -> tuple[FaceRecord, ...]:
        """All committed faces of a subject."""
        return await self._all(_committed(collection_id).where(FACES.c.subject == subject))

    async def of_image(self, collection_id: str, image_sha256: str) -> tuple[FaceRecord, ...]:
        """All committed faces that came from an image."""
        return await self._all(
            _committed(collection_id).where(FACES.c.image_sha256 == image_sha256)
        )

    async def in_state(self, state: FaceState) -> tuple[FaceRecord, ...]:
        """All faces left in a state, for the repair at start."""
        return await self._all(select(FACES).where(FACES.c.state == state))

    async def expired(self, *, at: float, limit: int) -> tuple[FaceRecord, ...]:
        """Committed faces whose time is over."""
        return await self._all(
            select(FACES).where(FACES.c.state == "committed", FACES.c.expires_at <= at).limit(limit)
        )

    async def page(
        self,
        collection_id: str,
        *,
        limit: int,
        after: tuple[float, str] | None = None,
        subject: str | None = None,
    ) -> tuple[FaceRecord, ...]:
        """Committed faces, oldest first, those after (time, id)."""
        query = _committed(collection_id).order_by(FACES.c.created_at, FACES.c.id).limit(limit)
        if after is not None:
            at, face_id = after
            later = and_(FACES.c.created_at == at, FACES.c.id > face_id)
            query = query.where(or_(FACES.c.created_at > at, later))
        if subject is not None:
            query = query.where(FACES.c.subject == subject)
        return await self._all(query)

    async def ids(self, collection_id: str) -> frozenset[str]:
        """The ids of all committed faces of a collection."""
        query = select(FACES.c.id).where(
            FACES.c.collection_id == collection_id, FACES.c.state == "committed"
        )
        async with self._database.read() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def count(self, collection_id: str) -> tuple[int, int]:
        """Committed faces and subjects of a collection."""
        query = select(func.count(), func.count(FACES.c.subject.distinct())).where(
            FACES.c.collection_id == collection_id, FACES.c.state == "committed"
        )
        async with self._database.read() as connection:
            faces, subjects = (await connection.execute(query)).one()
        return faces, subjects

    async def count_copied(self, collection_id: str, space: str) -> int:
        """Committed faces that lie in `space`, by birth or by migration."""
        query = select(func.count()).where(
            FACES.c.collection_id == collection_id,
            FACES.c.state == "committed",
            or_(FACES.c.space == space, FACES.c.copied_to == space),
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def not_in_space(
        self, collection_id: str, space: str, *, limit: int, after: str = ""
    ) -> tuple[FaceRecord, ...]:
        """Committed faces without a vector in `space`, by id."""
        return await self._all(
            _committed(collection_id)
            .where(
                FACES.c.space != space,
                or_(FACES.c.copied_to.is_(None), FACES.c.copied_to != space),
                FACES.c.id > after,
            )
            .order_by(FACES.c.id)
            .limit(limit)
        )

    async def mark_copied(self, face_ids: Sequence[str], space: str | None) -> None:
        """Say that the faces have a vector in a second space, too."""
        await self._update(face_ids, {"copied_to": space})

    async def move_space(self, collection_id: str, *, source: str, target: str) -> None:
        """After a cut-over or rollback: `target` is home, `source` the copy, where both exist."""
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
        """The copies in `space` are gone."""
        query = (
            update(FACES)
            .where(FACES.c.collection_id == collection_id, FACES.c.copied_to == space)
            .values(copied_to=None)
        )
        async with self._database.write() as connection:
            await connection.execute(query)

    async def crops(self, face_ids: Sequence[str]) -> tuple[SealedCrop, ...]:
        """The encrypted crops of these faces that have one."""
        found: list[SealedCrop] = []
        async with self._database.read() as connection:
            for part in _parts(face_ids):
                query = select(CROPS).where(CROPS.c.face_id.in_(part))
                rows = (await connection.execute(query)).mappings().all()
                found += [SealedCrop(**row) for row in rows]
        return tuple(found)

    async def count_crops(self, collection_id: str) -> int:
        """How many crops a collection keeps."""
        query = (
            select(func.count())
            .select_from(CROPS.join(FACES, CROPS.c.face_id == FACES.c.id))
            .where(FACES.c.collection_id == collection_id)
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def remove_crops(self, collection_id: str) -> int:
        """Remove all crops of a collection, not its faces; returns how many there were."""
        own = select(FACES.c.id).where(FACES.c.collection_id == collection_id)
        async with self._database.write() as connection:
            removed = await connection.execute(delete(CROPS).where(CROPS.c.face_id.in_(own)))
        return removed.rowcount

    async def _set_state(self, face_ids: Sequence[str], state: FaceState) -> None:
        await self._update(face_ids, {"state": state})

    async def _update(self, face_ids: Sequence[str], values: dict[str, Any]) -> None:
        async with self._database.write() as connection:
            for part in _parts(face_ids):
                await connection.execute(update(FACES).where(FACES.c.id.in_(part)).values(values))

    async def _all(self, query: Select[Any]) -> tuple[FaceRecord, ...]:
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(_record(row) for row in rows)


def _committed(collection_id: str) -> Select[Any]:
    return select(FACES).where(FACES.c.collection_id == collection_id, FACES.c.state == "committed")


def _parts(face_ids: Sequence[str]) -> list[Sequence[str]]:
    return [face_ids[i : i + _IDS_AT_ONCE] for i in range(0, len(face_ids), _IDS_AT_ONCE)]


def _row(face: FaceRecord) -> dict[str, Any]:
    return {
        "id": face.id,
        "collection_id": face.collection_id,
        "subject": face.subject,
        "space": face.space,
        "copied_to": face.copied_to,
        "state": face.state,
        "image_sha256": face.image_sha256,
        "box": None if face.box is None else list(face.box),
        "quality": dict(face.quality),
        "metadata": dict(face.metadata),
        "detector": face.detector,
        "created_at": face.created_at,
        "expires_at": face.expires_at,
    }


def _crop_row(crop: SealedCrop) -> dict[str, Any]:
    return {
        "face_id": crop.face_id,
        "key_id": crop.key_id,
        "nonce": crop.nonce,
        "sealed": crop.sealed,
    }


def _record(row: RowMapping) -> FaceRecord:
    box = row["box"]
    return FaceRecord(**{**row, "box": None if box is None else tuple(box)})

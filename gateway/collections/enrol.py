"""Enrols faces so that nothing acknowledged is lost and nothing is left half written.

The journal comes first (`pending`), then the vector, flushed to the disk, then the journal again
(`committed`), then the answer. A face that is still `pending` at a start was never
acknowledged and is removed with its vector (`reconcile.py`).

The journal takes an image once for each subject: of concurrent requests with the same image, one
writes it and the others wait and answer with what it wrote.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy.exc import IntegrityError

from gateway.collections.base import (
    CropEmbedder,
    Enrolled,
    FaceCandidate,
    Stores,
    index_of,
    new_id,
)
from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    ConflictError,
    EnrolmentRefusedError,
    InvalidRequestError,
    NotFoundError,
    StorageUnavailableError,
)
from gateway.records.encryption import DataCipher
from gateway.records.types import (
    Begun,
    CollectionRecord,
    FaceRecord,
    KeptAnswer,
    SealedCrop,
    Terms,
)
from gateway.vectors.base import (
    DimensionMismatchError,
    FacePoint,
    UnknownVectorCollectionError,
    Vector,
    VectorCollection,
)

_DAY_SECONDS = 86_400
_FIRST_LOOK_SECONDS = 0.01
_LONGEST_LOOK_SECONDS = 0.2
_BUSY_SECONDS = 1
_NO_TERMS = Terms()
log = logging.getLogger(__name__)
KeepEnrolled = Callable[[tuple[Enrolled, ...]], KeptAnswer]
"""Makes of the faces of a request the answer that names them."""


class ListChangedError(Exception):
    """The list of faces that are not enrolled has changed: compare the candidates again."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """An enrolment that failed; has_key: it had an idempotency key."""

    collection: CollectionRecord
    faces: Sequence[FaceRecord]
    has_key: bool


class Enrolment:
    """Writes faces to vectors and records."""

    def __init__(
        self,
        stores: Stores,
        embedder: CropEmbedder,
        cipher: DataCipher,
        *,
        longest_seconds: float,
    ) -> None:
        """Enrol in these stores.

        longest_seconds: no enrolment runs so long, in any process that uses the stores.
        """
        self._stores = stores
        self._embedder = embedder
        self._cipher = cipher
        self._longest_seconds = longest_seconds
        self._made: set[VectorCollection] = set()
        self._unsettled: dict[str, _Failed] = {}

    async def enrol(
        self,
        collection: CollectionRecord,
        candidates: Sequence[FaceCandidate],
        *,
        deadline: Deadline,
        terms: Terms = _NO_TERMS,
        kept: KeepEnrolled | None = None,
    ) -> tuple[Enrolled, ...]:
        """Enrol all of them, in their order, or none.

        Candidates of an image that was enrolled for their subject before are answered with the
        faces enrolled then. kept: makes the answer that is kept when new faces come to exist, in
        the same transaction. Raises ConflictError for embeddings of another space than the
        collection's, or while another request holds one of the images; EnrolmentRefusedError,
        ConsentRequiredError or ListChangedError where the terms do not allow it.
        """
        if not candidates:
            return ()
        async with self._stores.records.presence.lasting():
            return await self._enrol(collection, candidates, deadline, terms, kept)

    async def _enrol(
        self,
        collection: CollectionRecord,
        candidates: Sequence[FaceCandidate],
        deadline: Deadline,
        terms: Terms,
        kept: KeepEnrolled | None,
    ) -> tuple[Enrolled, ...]:
        collection = await self._bound(collection, candidates[0])
        candidates = await self._in_space(collection, candidates, deadline)
        now = time.time()
        faces = [_face(collection, candidate, at=now) for candidate in candidates]
        copies = await self._copies(collection, candidates, deadline)
        crops = self._sealed(collection, faces, candidates)
        begun = await self._begin(collection, faces, crops, deadline, terms)
        if begun.faces:
            written = {face.id for face in begun.faces}
            new = [number for number, face in enumerate(faces) if face.id in written]
            if copies is not None:
                copies = copies[0], copies[1][new]
            try:
                chosen = [candidates[number] for number in new]
                await self._write_vectors(collection, begun.faces, chosen, copies)
                enrolled = _answer(candidates, faces, begun)
                keep = None if kept is None else kept(enrolled)
                await self._commit(begun.faces, terms, keep)
            except BaseException:
                await self._undo(_Failed(collection, begun.faces, has_key=kept is not None))
                raise
            return enrolled
        return _answer(candidates, faces, begun)

    async def _commit(
        self, faces: Sequence[FaceRecord], terms: Terms, kept: KeptAnswer | None
    ) -> None:
        """Write the journal again: the faces exist."""
        ids = sorted(face.id for face in faces)
        if not await self._stores.records.faces.commit(ids, kept=kept):
            if await self._stores.records.erasures.forbids(faces, terms.begun_at):
                raise EnrolmentRefusedError("it was erased while it was being enrolled")
            raise StorageUnavailableError(
                "the enrolment took so long that it was undone", retry_after_seconds=_BUSY_SECONDS
            )

    async def _begin(
        self,
        collection: CollectionRecord,
        faces: Sequence[FaceRecord],
        crops: Sequence[SealedCrop],
        deadline: Deadline,
        terms: Terms,
    ) -> Begun:
        """Write the journal once no other request is enrolling one of the images."""
        records = self._stores.records
        pause = _FIRST_LOOK_SECONDS
        while True:
            try:
                begun = await records.faces.begin(faces, crops, terms)
            except IntegrityError as error:
                record = await records.collections.get(collection.id)
                if record is None or record.state != "active":
                    raise NotFoundError(f"collection {collection.name} was just deleted") from error
                # another gateway wrote one of the images first
                begun = Begun(busy=True)
            if begun.outdated:
                raise ListChangedError
            if not begun.busy:
                return begun
            if await self._removed_dead(collection, begun.pending):
                continue
            if not deadline.allows(pause):
                message = "another request is enrolling the same image; try again"
                raise ConflictError(message, retry_after_seconds=_BUSY_SECONDS)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    async def _bound(self, collection: CollectionRecord, first: FaceCandidate) -> CollectionRecord:
        """Bind the collection to the space of its first face; of two first faces, one wins."""
        if collection.space is None:
            await self._stores.records.collections.set_space(
                collection.id, space=first.space, dimension=len(first.vector)
            )
            found = await self._stores.records.collections.get(collection.id)
            if found is None or found.state != "active":
                raise NotFoundError(f"collection {collection.name} was just deleted")
            collection = found
        return collection

    async def _in_space(
        self, collection: CollectionRecord, candidates: Sequence[FaceCandidate], deadline: Deadline
    ) -> list[FaceCandidate]:
        """Embed crops of a newer model in the space of the collection."""
        space = collection.space
        foreign = [c for c in candidates if c.space != space]
        if space is None or not foreign:
            return list(candidates)
        crops = [c.crop for c in foreign if c.crop is not None]
        if len(crops) < len(foreign):
            message = f"the collection uses space {space}, the embedding {foreign[0].space}"
            raise ConflictError(message)
        vectors = await self._embedder.embed(np.stack(crops), space=space, deadline=deadline)
        brought = iter(vectors)
        return [
            c if c.space == space else replace(c, vector=next(brought), space=space)
            for c in candidates
        ]

    async def _copies(
        self, collection: CollectionRecord, candidates: Sequence[FaceCandidate], deadline: Deadline
    ) -> tuple[str, Vector] | None:
        """Embed crops in the other space, too, while the collection moves: [N,D]."""
        migration = collection.migration
        if migration is None or migration.state == "failed":
            return None
        moved = collection.space == migration.target
        other = migration.source if moved else migration.target
        crops = [c.crop for c in candidates if c.crop is not None]
        if len(crops) < len(candidates):
            message = "while a collection moves to another space, only images can be enrolled"
            raise ConflictError(message)
        try:
            vectors = await self._embedder.embed(np.stack(crops), space=other, deadline=deadline)
        except ConflictError:
            if moved:
                # the old model is gone: the face exists in the new space only
                return None
            raise
        return other, vectors

    def _sealed(
        self,
        collection: CollectionRecord,
        faces: Sequence[FaceRecord],
        candidates: Sequence[FaceCandidate],
    ) -> list[SealedCrop]:
        if collection.settings.keep != "crop":
            return []
        return [
            SealedCrop.of(face.id, self._cipher.seal(face.id, candidate.crop.tobytes()))
            for face, candidate in zip(faces, candidates, strict=True)
            if candidate.crop is not None
        ]

    async def _write_vectors(
        self,
        collection: CollectionRecord,
        faces: Sequence[FaceRecord],
        candidates: Sequence[FaceCandidate],
        copies: tuple[str, Vector] | None,
    ) -> None:
        points = [
            point_of(face, candidate.vector, tenant=collection.tenant)
            for face, candidate in zip(faces, candidates, strict=True)
        ]
        await self._put(collection, candidates[0].space, points)
        if copies is not None:
            space, vectors = copies
            copied = [
                replace(point, vector=vector) for point, vector in zip(points, vectors, strict=True)
            ]
            await self._put(collection, space, copied)
            await self._stores.records.face_spaces.mark_copied([face.id for face in faces], space)

    async def _put(
        self, collection: CollectionRecord, space: str, points: Sequence[FacePoint]
    ) -> None:
        index = index_of(collection, space)
        vectors = self._stores.vectors
        try:
            if index not in self._made:
                await self._make(collection, index, len(points[0].vector))
            try:
                await vectors.upsert(index, points)
            except UnknownVectorCollectionError:
                # it was deleted since we created it, by this or another gateway
                await self._make(collection, index, len(points[0].vector))
                await vectors.upsert(index, points)
            await vectors.flush(index)
        except DimensionMismatchError as error:
            raise InvalidRequestError(str(error)) from error
        except UnknownVectorCollectionError as error:
            raise ConflictError(f"collection {collection.name} is being deleted") from error

    async def _make(
        self, collection: CollectionRecord, index: VectorCollection, dimension: int
    ) -> None:
        record = await self._stores.records.collections.get(collection.id)
        if record is None or record.state != "active":
            raise NotFoundError(f"collection {collection.name} was just deleted")
        await self._stores.vectors.create(index, dimension=dimension)
        self._made.add(index)

    async def settle(self) -> None:
        """Try again to remove what could not be removed when its enrolment failed."""
        for failed in tuple(self._unsettled.values()):
            await self._undo(failed)

    async def _removed_dead(
        self, collection: CollectionRecord, pending: Sequence[FaceRecord]
    ) -> bool:
        """Give up what a request began that cannot be running any more; whether there was any.

        Its gateway was killed, or lost the stores and ended before it could remove them itself.
        One that was only paused may write vectors after this. It removes them when it finds that
        it cannot commit.
        """
        before = time.time() - self._longest_seconds
        dead = await self._stores.records.unfinished.give_up(pending, begun_before=before)
        if dead:
            log.warning("removing a dead enrolment", extra={"faces": len(dead)})
            await self._remove(collection, dead)
        return bool(dead)

    async def _undo(self, failed: "_Failed") -> None:
        """Remove what was written; what cannot be removed now is left to `settle`.

        Faces of a request with a key stay if they exist after all: its answer was kept in the same
        transaction, and a repetition may have been given it.
        """
        key = failed.faces[0].id
        self._unsettled[key] = failed
        try:
            unfinished = self._stores.records.unfinished
            if not failed.has_key or await unfinished.withdraw(failed.faces):
                await self._remove(failed.collection, failed.faces)
        except AurumError as error:
            log.warning("an enrolment is undone later", extra={"reason": error.detail})
        else:
            self._unsettled.pop(key, None)

    async def _remove(self, collection: CollectionRecord, faces: Sequence[FaceRecord]) -> None:
        ids = [face.id for face in faces]
        spaces = {face.space for face in faces}
        if collection.migration is not None:
            spaces |= {collection.migration.source, collection.migration.target}
        for space in spaces:
            await remove_vectors(self._stores, index_of(collection, space), ids)
        await self._stores.records.faces.remove(ids)


async def remove_vectors(stores: Stores, index: VectorCollection, face_ids: Sequence[str]) -> int:
    """Remove vectors from an index that may not exist; returns how many there were."""
    try:
        removed = await stores.vectors.delete(index, face_ids)
        await stores.vectors.flush(index)
    except UnknownVectorCollectionError:
        return 0
    return removed


def point_of(face: FaceRecord, vector: Vector, *, tenant: str) -> FacePoint:
    """Make the point of a journal line."""
    return FacePoint(
        face_id=face.id,
        vector=vector,
        subject=face.subject,
        tenant=tenant,
        created_at=face.created_at,
        quality=face.quality,
        metadata=face.metadata,
        image_sha256=face.image_sha256,
        detector=face.detector,
    )


def _answer(
    candidates: Sequence[FaceCandidate], faces: Sequence[FaceRecord], begun: Begun
) -> tuple[Enrolled, ...]:
    """Return new faces and, once for each known image, the faces enrolled from it before."""
    enrolled: list[Enrolled] = []
    answered: set[str] = set()
    for candidate, face in zip(candidates, faces, strict=True):
        claim = face.claim
        if claim is None or claim not in begun.known:
            written = replace(face, state="committed")
            enrolled.append(Enrolled(candidate.index, written, duplicate=False))
        elif claim not in answered:
            answered.add(claim)
            known = begun.known[claim]
            enrolled += [Enrolled(candidate.index, each, duplicate=True) for each in known]
    return tuple(enrolled)


def _face(collection: CollectionRecord, candidate: FaceCandidate, *, at: float) -> FaceRecord:
    days = collection.settings.retention_days
    face_id = new_id()
    return FaceRecord(
        id=face_id,
        collection_id=collection.id,
        # a face without a name is a subject of its own; clustering finds which belong together
        subject=candidate.subject or face_id,
        space=candidate.space,
        created_at=at,
        image_sha256=candidate.image_sha256,
        box=candidate.box,
        quality=candidate.quality,
        metadata=candidate.metadata,
        detector=candidate.detector,
        expires_at=None if days is None else at + days * _DAY_SECONDS,
    )

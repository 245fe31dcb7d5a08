"""Deletes vectors, copies of a migration, crops, cached answers, then records.

The journal says `deleting` first, so that a crash in between is finished at the next start.
"""

import time
from collections.abc import Mapping, Sequence

from gateway.collections.base import (
    Actor,
    ImageForgetter,
    Receipt,
    Stores,
    index_of,
    new_id,
)
from gateway.collections.enrol import remove_vectors
from gateway.deadline import extend_current
from gateway.errors import NotFoundError
from gateway.records.types import AuditLine, CollectionRecord, FaceRecord
from gateway.types import Caller

_FACES_AT_ONCE = 1000
_LONGEST_SECONDS = 300.0
"""A deletion of many faces is carried to its end, also beyond the deadline of its request."""
RETENTION_CALLER = Caller(tenant="", name="retention")


class Forgetting:
    """Deletes faces, subjects and collections; each deletion returns a receipt."""

    def __init__(self, stores: Stores, cache: ImageForgetter) -> None:
        self._stores = stores
        self._cache = cache

    async def face(self, collection: CollectionRecord, face_id: str, actor: Actor) -> Receipt:
        """Delete a face; raises NotFoundError."""
        found = await self._stores.face(collection, face_id)
        return await self.faces(collection, [found], actor, action="forget_face")

    async def subject(self, collection: CollectionRecord, subject: str, actor: Actor) -> Receipt:
        """Delete a subject's record and all its faces; raises NotFoundError."""
        extend_current(_LONGEST_SECONDS)
        records = self._stores.records
        await self.over(collection, subject=subject)
        found = await records.faces.of_subject(collection.id, subject)
        if await records.subjects.get(collection.id, subject, at=time.time()) is None:
            raise NotFoundError(f"there is no subject {subject[:128]!r} in {collection.name}")
        # the record is deleted with the last face
        await records.subjects.wipe(collection.id, subject)
        return await self.faces(collection, found, actor, action="forget_subject")

    async def over(self, collection: CollectionRecord, *, subject: str | None = None) -> None:
        """Delete the expired faces of a collection, of one subject or of all."""
        expired = self._stores.records.faces.expired
        while faces := await expired(
            at=time.time(), limit=_FACES_AT_ONCE, collection_id=collection.id, subject=subject
        ):
            await self.faces(collection, faces, Actor(RETENTION_CALLER), action="retention")

    async def faces(
        self,
        collection: CollectionRecord,
        faces: Sequence[FaceRecord],
        actor: Actor,
        *,
        action: str,
    ) -> Receipt:
        """Delete faces of a collection and write the audit line."""
        ids = [face.id for face in faces]
        await self._stores.records.faces.begin_forgetting(ids)
        counts = await self.finish(collection, faces)
        return await self._receipt(collection, counts, actor, action=action)

    async def finish(
        self, collection: CollectionRecord, faces: Sequence[FaceRecord]
    ) -> dict[str, int]:
        """Carry out what the journal already says, also after a crash."""
        ids = [face.id for face in faces]
        vectors = 0
        for space in spaces_of(collection, faces):
            vectors += await remove_vectors(self._stores, index_of(collection, space), ids)
        digests = {face.image_sha256 for face in faces if face.image_sha256 is not None}
        cached = await self._cache.forget_images(sorted(digests), tenant=collection.tenant)
        crops = await self._stores.records.faces.remove(ids)
        return {"faces": len(ids), "vectors": vectors, "crops": crops, "cached_answers": cached}

    async def collection(self, collection: CollectionRecord, actor: Actor) -> Receipt:
        """Delete a collection and everything in it."""
        extend_current(_LONGEST_SECONDS)
        await self.over(collection)
        await self._stores.records.collections.mark_deleting(collection.id)
        counts = await self.finish_collection(collection)
        return await self._receipt(collection, counts, actor, action="forget_collection")

    async def finish_collection(self, collection: CollectionRecord) -> dict[str, int]:
        """Delete every vector collection, then the faces page by page, then the record."""
        vectors = 0
        for index in await self._stores.vectors.collections():
            if (index.tenant, index.collection) == (
                collection.tenant,
                collection.name,
            ):
                vectors += await self._stores.vectors.count(index)
                await self._stores.vectors.drop(index)
        totals = {"faces": 0, "vectors": vectors, "crops": 0, "cached_answers": 0}
        records = self._stores.records.faces
        while faces := await records.page(collection.id, limit=_FACES_AT_ONCE, over=True):
            digests = {face.image_sha256 for face in faces if face.image_sha256 is not None}
            totals["cached_answers"] += await self._cache.forget_images(
                sorted(digests), tenant=collection.tenant
            )
            totals["crops"] += await records.remove([f.id for f in faces])
            totals["faces"] += len(faces)
        await self._stores.records.collections.remove(collection.id)
        return totals

    async def crops(self, collection: CollectionRecord, actor: Actor) -> Receipt:
        """Delete the stored crops of a collection, but not its faces."""
        extend_current(_LONGEST_SECONDS)
        removed = await self._stores.records.faces.remove_crops(collection.id)
        counts = {"faces": 0, "vectors": 0, "crops": removed, "cached_answers": 0}
        return await self._receipt(collection, counts, actor, action="forget_crops")

    async def _receipt(
        self,
        collection: CollectionRecord,
        counts: Mapping[str, int],
        actor: Actor,
        *,
        action: str,
    ) -> Receipt:
        line = AuditLine(
            at=time.time(),
            tenant=collection.tenant,
            actor=actor.caller.name,
            action=action,
            collection=collection.name,
            receipt=new_id(),
            counts=counts,
            request_id=actor.request_id,
        )
        await self._stores.records.audit.add(line)
        return Receipt(
            receipt=line.receipt,
            at=line.at,
            faces=counts["faces"],
            vectors=counts["vectors"],
            crops=counts["crops"],
            cached_answers=counts["cached_answers"],
        )


def spaces_of(collection: CollectionRecord, faces: Sequence[FaceRecord]) -> list[str]:
    """Return every space in which these faces may have a vector."""
    spaces = {face.space for face in faces} | {f.copied_to for f in faces if f.copied_to}
    if collection.space is not None:
        spaces.add(collection.space)
    if collection.migration is not None:
        spaces |= {collection.migration.source, collection.migration.target}
    return sorted(space for space in spaces if space is not None)

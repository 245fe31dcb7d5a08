"""Deletes vectors, copies of a migration, crops, cached answers, results of jobs, then records.

First the erasure is noted, so that nothing that is under way brings a face back, and no backup that
is restored later. Then the journal says `deleting`, so that a crash in between is finished at the
next start.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from gateway.collections.base import (
    Actor,
    ImageForgetter,
    Receipt,
    Stores,
    index_of,
    new_id,
)
from gateway.collections.enrol import remove_vectors
from gateway.collections.names import subject_in
from gateway.deadline import extend_current
from gateway.errors import AurumError, NotFoundError
from gateway.records.erasure_register import NOTHING_REGISTERED, ErasureRegister, Mark
from gateway.records.job_erasure import ErasedItems, Trace, Unfinished
from gateway.records.types import AuditLine, CollectionRecord, FaceRecord
from gateway.types import Caller

_FACES_AT_ONCE = 1000
_LONGEST_SECONDS = 300.0
"""A deletion of many faces is carried to its end, also beyond the deadline of its request."""
RETENTION_CALLER = Caller(tenant="", name="retention")
_UNFINISHED: Final[Mapping[str, Unfinished]] = {
    "forget_face": "here",
    "forget_subject": "here",
    "erase_person": "all",
}
"""By action: which images of jobs end. What other actions delete may be enrolled again at once."""
_LOOK_SECONDS: Final = 0.02
_LOOKS: Final = 250
"""How often a deletion looks whether enrolments that it stopped have removed what they wrote."""
log = logging.getLogger(__name__)
DropObjects = Callable[[Sequence[str]], Awaitable[None]]


async def _drop_nothing(keys: Sequence[str]) -> None:
    """Leave uploaded images to the retention of their jobs."""


class Forgetting:
    """Deletes faces, subjects and collections; each deletion returns a receipt."""

    def __init__(self, stores: Stores, cache: ImageForgetter) -> None:
        self._stores = stores
        self._cache = cache
        self.drop_objects: DropObjects = _drop_nothing
        """Deletes uploaded images of jobs by key; set where there are jobs."""
        self.register: ErasureRegister = NOTHING_REGISTERED
        """Outlives the stores; set where they can be backed up."""

    async def face(self, collection: CollectionRecord, face_id: str, actor: Actor) -> Receipt:
        """Delete a face; raises NotFoundError."""
        found = await self._stores.face(collection, face_id)
        return await self.faces(collection, [found], actor, action="forget_face")

    async def subject(
        self,
        collection: CollectionRecord,
        subject: str,
        actor: Actor,
        *,
        action: str = "forget_subject",
    ) -> Receipt:
        """Delete a subject's record and all its faces; raises NotFoundError."""
        extend_current(_LONGEST_SECONDS)
        records = self._stores.records
        await self.register.note([Mark("subject", collection.id, subject)])
        await self._stop(collection, subjects=[subject], unfinished=_UNFINISHED.get(action, "none"))
        await self.over(collection, subject=subject)
        found = await records.faces.of_subject(collection.id, subject)
        if await records.subjects.get(collection.id, subject, at=time.time()) is None:
            raise NotFoundError(f"there is no subject {subject[:128]!r} in {collection.name}")
        # the record is deleted with the last face
        await records.subjects.wipe(collection.id, subject)
        return await self.faces(collection, found, actor, action=action, subjects=[subject])

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
        subjects: Collection[str] = (),
    ) -> Receipt:
        """Delete faces of a collection and write the audit line.

        subjects: names that are deleted altogether, also from jobs.
        """
        ids = [face.id for face in faces]
        unfinished = _UNFINISHED.get(action, "none")
        if unfinished != "none":
            images = _digests(faces)
            marks = [Mark("image", collection.id, digest) for digest in images]
            if action == "forget_face":
                # of a subject, its name is noted
                marks += [Mark("face", collection.id, face_id) for face_id in ids]
            await self.register.note(marks)
            await self._stop(collection, subjects=subjects, images=images, unfinished=unfinished)
        await self._stores.records.faces.begin_forgetting(ids)
        counts = await self.finish(collection, faces, subjects=subjects, unfinished=unfinished)
        return await self._receipt(collection, counts, actor, action=action)

    async def finish(
        self,
        collection: CollectionRecord,
        faces: Sequence[FaceRecord],
        *,
        subjects: Collection[str] = (),
        unfinished: Unfinished = "none",
    ) -> dict[str, int]:
        """Carry out what the journal already says, also after a crash."""
        ids = [face.id for face in faces]
        vectors = 0
        for space in spaces_of(collection, faces):
            vectors += await remove_vectors(self._stores, index_of(collection, space), ids)
        digests = _digests(faces)
        cached = await self._cache.forget_images(digests, tenant=collection.tenant)
        trace = Trace(
            collection.tenant, collection.id, _until(faces, time.time()), frozenset(subjects)
        )
        results = await self._in_jobs(trace, unfinished)
        crops = await self._stores.records.faces.remove(ids)
        return {
            "faces": len(ids),
            "vectors": vectors,
            "crops": crops,
            "cached_answers": cached,
            "job_results": results,
        }

    async def collection(self, collection: CollectionRecord, actor: Actor) -> Receipt:
        """Delete a collection and everything in it."""
        extend_current(_LONGEST_SECONDS)
        await self.register.note([Mark("collection", collection.id)])
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
        trace = Trace(collection.tenant, collection.id)
        erased = await self._stores.records.job_erasure.erase_collection(trace)
        await self._drop(erased)
        totals = {"faces": 0, "vectors": vectors, "crops": 0, "cached_answers": 0}
        totals["job_results"] = erased.results
        records = self._stores.records.faces
        while faces := await records.page(collection.id, limit=_FACES_AT_ONCE, over=True):
            digests = _digests(faces)
            totals["cached_answers"] += await self._cache.forget_images(
                digests, tenant=collection.tenant
            )
            images = _until(faces, time.time())
            shown = Trace(collection.tenant, collection.id, images)
            totals["job_results"] += await self._in_jobs(shown, "here")
            totals["crops"] += await records.remove([f.id for f in faces])
            totals["faces"] += len(faces)
        await self._stores.records.collections.remove(collection.id)
        return totals

    async def note_crops(self, collection: CollectionRecord) -> None:
        """Note that the crops of a collection are about to be deleted."""
        await self.register.note([Mark("crops", collection.id)])

    async def crops(self, collection: CollectionRecord, actor: Actor) -> Receipt:
        """Delete the stored crops of a collection, but not its faces; `note_crops` comes first."""
        extend_current(_LONGEST_SECONDS)
        removed = await self._stores.records.faces.remove_crops(collection.id)
        counts = {"faces": 0, "vectors": 0, "crops": removed, "cached_answers": 0}
        counts["job_results"] = 0
        return await self._receipt(collection, counts, actor, action="forget_crops")

    async def _stop(
        self,
        collection: CollectionRecord,
        *,
        subjects: Collection[str] = (),
        images: Collection[str] = (),
        unfinished: Unfinished,
    ) -> None:
        """Note an erasure, and wait until enrolments that it stops have removed what they wrote.

        What they cannot remove, as after a crash, the repair removes.
        """
        erasures = self._stores.records.erasures
        stopped = await erasures.note(
            collection.id, subjects=subjects, images=images, unfinished=unfinished
        )
        for _ in range(_LOOKS):
            if not stopped or not await erasures.left(stopped):
                return
            await asyncio.sleep(_LOOK_SECONDS)
        log.warning("enrolments that were stopped are removed later", extra={"faces": len(stopped)})

    async def _in_jobs(self, trace: Trace, unfinished: Unfinished) -> int:
        """Remove the results of jobs about the faces; returns how many there were."""
        if not trace.images and not trace.subjects:
            return 0
        erasure = self._stores.records.job_erasure
        erased = await erasure.erase(trace, subject_in, unfinished=unfinished)
        await self._drop(erased)
        return erased.results

    async def _drop(self, erased: ErasedItems) -> None:
        if not erased.objects:
            return
        try:
            await self.drop_objects(erased.objects)
        except AurumError as error:
            # they are sealed, nothing names them any more, and they go with their job
            log.warning("uploaded images stay for now", extra={"reason": error.detail})

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
            job_results=counts["job_results"],
        )


def _digests(faces: Sequence[FaceRecord]) -> list[str]:
    return sorted({face.image_sha256 for face in faces if face.image_sha256 is not None})


def _until(faces: Sequence[FaceRecord], now: float) -> dict[str, float]:
    """Return images, and until when results of jobs are about the faces that they gave.

    An image may be enrolled anew once its face has expired.
    """
    until: dict[str, float] = {}
    for face in faces:
        if face.image_sha256 is not None:
            over = now if face.expires_at is None else min(now, face.expires_at)
            until[face.image_sha256] = max(over, until.get(face.image_sha256, 0.0))
    return until


def spaces_of(collection: CollectionRecord, faces: Sequence[FaceRecord]) -> list[str]:
    """Return every space in which these faces may have a vector."""
    spaces = {face.space for face in faces} | {f.copied_to for f in faces if f.copied_to}
    if collection.space is not None:
        spaces.add(collection.space)
    if collection.migration is not None:
        spaces |= {collection.migration.source, collection.migration.target}
    return sorted(space for space in spaces if space is not None)

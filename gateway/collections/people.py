"""A person across the collections of a tenant: found, described, changed, erased."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.collections.base import Actor, Receipt, Stores, index_of, new_id
from gateway.collections.erase import Forgetting
from gateway.collections.names import subject_in
from gateway.collections.refusals import NewRefusal, Refusals
from gateway.collections.search import Probe, Search, SearchOptions
from gateway.deadline import Deadline, extend_current
from gateway.errors import (
    ConfigurationError,
    ConflictError,
    ConsentRequiredError,
    InvalidRequestError,
    NotFoundError,
    StorageUnavailableError,
)
from gateway.records import clock
from gateway.records.encryption import DataCipher
from gateway.records.erasure_register import Mark
from gateway.records.job_erasure import Trace, TracedItem
from gateway.records.refusals import RefusedFace
from gateway.records.types import (
    AuditLine,
    CollectionRecord,
    Consent,
    FaceRecord,
    MetadataValue,
    SubjectRecord,
)
from gateway.thresholds import Thresholds
from gateway.types import Caller
from gateway.vectors.base import UnknownVectorCollectionError, Vector
from triton_python_backend import contract

MOST_PEOPLE: Final = 100
"""Subjects of one export or erasure."""
MOST_FACES: Final = 2000
"""Faces of one export."""
_COLLECTIONS_AT_ONCE: Final = 200
_ENTRIES_EACH: Final = 32
"""Most faces of an erased subject that are put on a do-not-enrol list, the newest ones."""
_LONGEST_SECONDS: Final = 300.0
_SKEW_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Person:
    """A subject of a collection; similarity: to the face that was searched for, if one was."""

    collection: CollectionRecord
    subject: SubjectRecord
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class FoundPeople:
    """Candidates, and names of collections that could not be searched with the models there are."""

    people: tuple[Person, ...]
    not_searched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """All that is stored about a person in one collection.

    crops: by face id, [112,112,3] uint8 RGB. vectors: by face id. clusters: by face id. answers:
    times of kept answers that name the faces. items: images of jobs. refusals: entries of the
    do-not-enrol list that match the faces.
    """

    person: Person
    faces: tuple[FaceRecord, ...]
    crops: Mapping[str, npt.NDArray[np.uint8]]
    vectors: Mapping[str, Vector]
    clusters: Mapping[str, str]
    answers: tuple[float, ...]
    items: tuple[TracedItem, ...]
    refusals: tuple[RefusedFace, ...]


@dataclass(frozen=True, slots=True)
class ErasedPerson:
    """What was deleted of a person in one collection; entries: put on its do-not-enrol list."""

    collection: str
    subject: str
    receipt: Receipt
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Erasure:
    """Receipt of an erasure in several collections; at: seconds since 1970."""

    receipt: str
    at: float
    people: tuple[ErasedPerson, ...]


class People:
    """Finds a person in every collection that a caller sees."""

    def __init__(
        self,
        stores: Stores,
        search: Search,
        forgetting: Forgetting,
        refusals: Refusals,
        cipher: DataCipher,
        thresholds: Thresholds,
    ) -> None:
        self._stores = stores
        self._search = search
        self._forgetting = forgetting
        self._refusals = refusals
        self._cipher = cipher
        self._thresholds = thresholds

    async def named(self, caller: Caller, name: str) -> FoundPeople:
        """Find the subjects of this name."""
        found = []
        async for collection in self._collections(caller):
            subject = await self._stores.records.subjects.get(collection.id, name, at=time.time())
            if subject is not None:
                found.append(Person(collection, subject))
        return FoundPeople(tuple(found))

    async def similar(
        self,
        caller: Caller,
        probe: Probe,
        *,
        min_similarity: float | None,
        limit: int,
        deadline: Deadline,
    ) -> FoundPeople:
        """Find the subjects with a face like this one, most similar first.

        Args:
            caller: whose collections are searched.
            probe: the face.
            min_similarity: lowest cosine; None uses the threshold of each collection.
            limit: most subjects of a collection.
            deadline: of the request.

        """
        found: list[Person] = []
        missed: list[str] = []
        async for collection in self._collections(caller):
            lowest = min_similarity
            if lowest is None:
                lowest = self._thresholds.of_collection(collection)
            options = SearchOptions(limit, lowest)
            try:
                (matches,) = await self._search.find(
                    collection, [probe], options, deadline=deadline
                )
            except ConflictError:
                missed.append(collection.name)
                continue
            for match in matches:
                subject = await self._stores.records.subjects.get(
                    collection.id, match.subject, at=time.time()
                )
                if subject is not None:
                    found.append(Person(collection, subject, match.similarity))
        found.sort(key=lambda person: -(person.similarity or 0.0))
        return FoundPeople(tuple(found), tuple(missed))

    async def located(
        self, caller: Caller, targets: Sequence[tuple[str, str]]
    ) -> tuple[Person, ...]:
        """Return subjects by (collection, name); raises NotFoundError if one does not exist."""
        found = []
        for name, subject_name in dict.fromkeys(targets):
            collection = await self._stores.collection(caller, name)
            subject = await self._stores.records.subjects.get(
                collection.id, subject_name, at=time.time()
            )
            if subject is None:
                raise NotFoundError(f"there is no subject {subject_name[:128]!r} in {name}")
            found.append(Person(collection, subject))
        return tuple(found)

    async def change(
        self,
        collection: CollectionRecord,
        name: str,
        changes: Mapping[str, str | Mapping[str, MetadataValue] | Consent | None],
        actor: Actor,
    ) -> SubjectRecord | None:
        """Change fields of a subject's record; None if there is no such subject.

        A consent that is withdrawn ends at once: from then on the faces do not exist, and nothing
        that is under way enrols the subject. Raises ConsentRequiredError where a consent may only
        be withdrawn, InvalidRequestError for a withdrawal in the future.
        """
        records, at = self._stores.records, time.time()
        if "consent" not in changes:
            return await records.subjects.change(collection.id, name, changes, at=at)
        consent = changes["consent"]
        if consent is None and collection.settings.requires_consent:
            message = "the collection requires consent: withdraw it instead of removing it"
            raise ConsentRequiredError(message)
        if not isinstance(consent, Consent) or consent.withdrawn_at is None:
            return await records.subjects.change(collection.id, name, changes, at=at)
        if consent.withdrawn_at > at + _SKEW_SECONDS:
            raise InvalidRequestError("consent.withdrawn_at lies in the future")
        if await records.subjects.get(collection.id, name, at=at) is None:
            return None
        await self._forgetting.register.note([Mark("subject", collection.id, name)])
        await records.erasures.note(collection.id, subjects=[name])
        withdrawn = replace(consent, withdrawn_at=min(consent.withdrawn_at, at))
        changed = await records.subjects.change(
            collection.id, name, {**changes, "consent": withdrawn}, at=at
        )
        await self._audit(collection, actor, "withdraw_consent", new_id(), {"subjects": 1})
        return changed

    async def held(
        self, people: Sequence[Person], actor: Actor, *, embeddings: bool
    ) -> tuple[Held, ...]:
        """Gather all that is stored about subjects.

        Raises InvalidRequestError for more than `MOST_FACES` faces.
        """
        number = sum(person.subject.faces for person in people)
        if number > MOST_FACES:
            message = f"{number} faces are too many for one export: {MOST_FACES} at most"
            raise InvalidRequestError(message)
        extend_current(_LONGEST_SECONDS)
        gathered = tuple([await self._held(person) for person in people])
        counts = {
            "subjects": len(gathered),
            "faces": sum(len(each.faces) for each in gathered),
            "crops": sum(len(each.crops) for each in gathered),
            "embeddings": sum(len(each.vectors) for each in gathered) if embeddings else 0,
        }
        await self._audit(None, actor, "export_people", new_id(), counts)
        return gathered

    async def erase(
        self, people: Sequence[Person], actor: Actor, *, do_not_enrol: str | None
    ) -> Erasure:
        """Delete subjects everywhere; do_not_enrol: the reason for putting their faces on the list.

        The list comes first, so that nobody enrols them in between. An erasure that fails halfway
        can be repeated for those that are left.
        """
        extend_current(_LONGEST_SECONDS)
        erased = []
        for person in people:
            entries: tuple[str, ...] = ()
            if do_not_enrol is not None:
                added = await self.refuse(person, actor, reason=do_not_enrol, keep_crop=False)
                entries = tuple(entry.id for entry in added)
            receipt = await self._forgetting.subject(
                person.collection, person.subject.name, actor, action="erase_person"
            )
            each = ErasedPerson(person.collection.name, person.subject.name, receipt, entries)
            erased.append(each)
        erasure = Erasure(new_id(), time.time(), tuple(erased))
        counts = {
            "subjects": len(erased),
            "faces": sum(each.receipt.faces for each in erased),
            "job_results": sum(each.receipt.job_results for each in erased),
            "entries": sum(len(each.entries) for each in erased),
        }
        await self._audit(None, actor, "erase_people", erasure.receipt, counts)
        return erasure

    async def refuse(
        self, person: Person, actor: Actor, *, reason: str, keep_crop: bool
    ) -> tuple[RefusedFace, ...]:
        """Put the faces of a subject on the do-not-enrol list of its collection."""
        collection = person.collection
        if collection.space is None:
            return ()
        faces = await self._stores.records.faces.of_subject(collection.id, person.subject.name)
        newest = sorted(faces, key=lambda face: face.created_at)[-_ENTRIES_EACH:]
        vectors = await self._vectors(collection, newest)
        crops = await self._crops(newest) if keep_crop else {}
        new = [
            NewRefusal(vector, collection.space, crops.get(face_id))
            for face_id, vector in vectors.items()
        ]
        return await self._refusals.add(collection, new, reason=reason, actor=actor) if new else ()

    async def _held(self, person: Person) -> Held:
        collection, records = person.collection, self._stores.records
        faces = await records.faces.of_subject(collection.id, person.subject.name)
        ids = {face.id for face in faces}
        members = await records.clusters.members(collection.id)
        vectors = await self._vectors(collection, faces)
        refusals: tuple[RefusedFace, ...] = ()
        if vectors and collection.space is not None:
            refusals = await self._refusals.matching(
                collection, list(vectors.values()), collection.space
            )
        now = clock.now()
        images = {face.image_sha256: now for face in faces if face.image_sha256 is not None}
        subjects = frozenset([person.subject.name])
        trace = Trace(collection.tenant, collection.id, images, subjects)
        return Held(
            person=person,
            faces=faces,
            crops=await self._crops(faces),
            vectors=vectors,
            clusters={face: cluster for face, cluster in members.items() if face in ids},
            answers=await records.idempotency.naming(collection.tenant, sorted(ids)),
            items=tuple(await records.job_erasure.find(trace, subject_in)),
            refusals=refusals,
        )

    async def _vectors(
        self, collection: CollectionRecord, faces: Sequence[FaceRecord]
    ) -> dict[str, Vector]:
        if collection.space is None or not faces:
            return {}
        index = index_of(collection, collection.space)
        try:
            points = await self._stores.vectors.retrieve(index, [face.id for face in faces])
        except UnknownVectorCollectionError:
            return {}
        return {point.face_id: point.vector for point in points}

    async def _crops(self, faces: Sequence[FaceRecord]) -> dict[str, npt.NDArray[np.uint8]]:
        sealed = await self._stores.records.faces.crops([face.id for face in faces])
        shape = (contract.CROP_SIZE, contract.CROP_SIZE, 3)
        try:
            opened = {
                crop.face_id: self._cipher.open(crop.face_id, crop.bytes_only) for crop in sealed
            }
        except ConfigurationError as error:
            raise StorageUnavailableError(f"a crop cannot be opened: {error}") from error
        return {
            face_id: np.frombuffer(pixels, dtype=np.uint8).reshape(shape)
            for face_id, pixels in opened.items()
        }

    async def _collections(self, caller: Caller) -> AsyncIterator[CollectionRecord]:
        after = None
        while page := await self._stores.records.collections.page(
            tenant=caller.tenant,
            limit=_COLLECTIONS_AT_ONCE,
            after=after,
            names=caller.collections,
        ):
            for collection in page:
                yield collection
            after = page[-1].name

    async def _audit(
        self,
        collection: CollectionRecord | None,
        actor: Actor,
        action: str,
        receipt: str,
        counts: Mapping[str, int],
    ) -> None:
        await self._stores.records.audit.add(
            AuditLine(
                at=time.time(),
                tenant=actor.caller.tenant,
                actor=actor.caller.name,
                action=action,
                collection=None if collection is None else collection.name,
                receipt=receipt,
                counts=counts,
                request_id=actor.request_id,
            )
        )

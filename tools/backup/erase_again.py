"""Erases again what was erased after a backup was made, when that is restored."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.collections.base import Actor, NothingCached, Receipt, Stores
from gateway.collections.erase import Forgetting
from gateway.collections.names import subject_in
from gateway.jobs.objects.factory import open_store_as_is
from gateway.records import clock
from gateway.records.erasure_register import Mark
from gateway.records.factory import open_records, records_files, records_url
from gateway.records.job_erasure import Trace
from gateway.records.snapshot import record_snapshot
from gateway.records.types import AuditLine, CollectionRecord, FaceRecord
from gateway.settings import Settings
from gateway.types import Caller
from gateway.vectors.base import VectorStore
from tools.backup.keys import audit_keys_ever
from tools.backup.registers import Book, Registers

_ACTOR: Final = Actor(Caller(tenant="", name="aurum backup"))
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Again:
    """How much was erased again."""

    collections: int = 0
    subjects: int = 0
    faces: int = 0
    crops: int = 0
    job_images: int = 0
    keys: int = 0

    def add(self, receipt: Receipt) -> None:
        """Count what a receipt says."""
        self.faces += receipt.faces
        self.crops += receipt.crops


@dataclass(frozen=True, slots=True)
class _Job:
    """A job of the backup; images: names and digests."""

    created_at: float
    collection_id: str | None
    tenant: str
    options: Mapping[str, Any]
    images: list[tuple[str, str]]


async def erase_again(
    settings: Settings, vectors: VectorStore, registers: Registers, *, is_restoring: bool = False
) -> tuple[dict[str, int], list[str]]:
    """Erase what registers name and what is older than its erasure.

    Somebody who was enrolled again later stays. is_restoring: see `open_records`. Returns numbers,
    and what the operator should know.
    """
    book = Book(registers, audit_keys_ever(settings))
    records = await open_records(settings, is_restoring=is_restoring)
    objects = open_store_as_is(settings)
    try:
        stores = Stores(vectors, records)
        forgetting = Forgetting(stores, NothingCached())
        forgetting.drop_objects = objects.delete
        work = _Erasing(stores, forgetting, book, registers.receipts)
        jobs = await _jobs(settings) if book.has("subject", "image") or registers.receipts else []
        collections = await records.collections.all()
        notes = work.doubtful(collections)
        for collection in collections:
            await work.collection(collection, jobs)
        await work.keys()
    finally:
        await objects.close()
        await records.close()
    if book.unknown:
        notes.append(
            f"warning: {book.unknown} erasures were noted under an audit key that is not here; put "
            "its file back and run `aurum backup erase-again`"
        )
    if registers.unread:
        notes.append(f"warning: {registers.unread} lines of registers cannot be read")
    return asdict(work.done), notes


class _Erasing:
    """Goes through the restored stores."""

    def __init__(
        self,
        stores: Stores,
        forgetting: Forgetting,
        book: Book,
        receipts: Mapping[tuple[str, str], float],
    ) -> None:
        self.done = Again()
        self._stores = stores
        self._forgetting = forgetting
        self._book = book
        self._receipts = dict(receipts)

    def doubtful(self, collections: Iterable[CollectionRecord]) -> list[str]:
        """Put receipts aside that may be about several tenants, as they do not name theirs."""
        names = [collection.name for collection in collections]
        several = {name for name in names if names.count(name) > 1}
        left = {each for each in self._receipts if each[0] in several}
        for each in left:
            del self._receipts[each]
        if not left:
            return []
        return [
            f"warning: several tenants have a collection {name}: erase what receipts name by hand"
            for name in sorted({collection for collection, _ in left})
        ]

    async def collection(self, collection: CollectionRecord, jobs: Iterable[_Job]) -> None:
        """Erase from a collection, or all of it."""
        at = self._book.erased_at(Mark("collection", collection.id))
        if at is not None:
            self.done.add(await self._forgetting.collection(collection, _ACTOR))
            self.done.collections += 1
            return
        at = self._book.erased_at(Mark("crops", collection.id))
        if at is not None and collection.updated_at <= at:
            self.done.add(await self._forgetting.crops(collection, _ACTOR))
        # first: what is under way must not bring anybody back
        await self._in_jobs(collection, jobs)
        if self._book.has("subject") or self._receipts:
            await self._subjects(collection)
        if self._book.has("face"):
            await self._faces(collection)

    async def keys(self) -> None:
        """Revoke API keys again."""
        if not self._book.has("key"):
            return
        records, after = self._stores.records, None
        while page := await records.keys.page(tenant=None, limit=_AT_ONCE, after=after):
            for key in page:
                at = self._book.erased_at(Mark("key", "", key.id))
                if at is None or key.revoked_at is not None:
                    continue
                await records.keys.revoke(key.id, tenant=None, at=at)
                line = AuditLine(
                    at=clock.now(),
                    tenant=key.tenant,
                    actor=_ACTOR.caller.name,
                    action="revoke_key",
                    collection=None,
                    receipt=key.id,
                    counts={},
                    request_id=None,
                )
                await records.audit.add(line)
                self.done.keys += 1
            after = (page[-1].created_at, page[-1].id)

    async def _subjects(self, collection: CollectionRecord) -> None:
        records = self._stores.records
        at, after = clock.now(), None
        while page := await records.subjects.page(
            collection.id, at=at, limit=_AT_ONCE, after=after
        ):
            for subject in page:
                erased_at = self._subject_erased_at(collection, subject.name)
                if erased_at is None:
                    continue
                faces = await records.faces.of_subject(collection.id, subject.name)
                old = [face for face in faces if face.created_at <= erased_at]
                if len(old) == len(faces) and subject.created_at <= erased_at:
                    receipt = await self._forgetting.subject(
                        collection, subject.name, _ACTOR, action="erase_person"
                    )
                    self.done.subjects += 1
                    self.done.add(receipt)
                else:
                    await self._forget(collection, old)
            after = page[-1].name

    async def _faces(self, collection: CollectionRecord) -> None:
        after = None
        while page := await self._stores.records.faces.page(
            collection.id, limit=_AT_ONCE, after=after
        ):
            erased = [
                face
                for face in page
                if self._book.erased_at(Mark("face", collection.id, face.id)) is not None
            ]
            await self._forget(collection, erased)
            after = (page[-1].created_at, page[-1].id)

    async def _forget(self, collection: CollectionRecord, faces: list[FaceRecord]) -> None:
        if faces:
            receipt = await self._forgetting.faces(collection, faces, _ACTOR, action="forget_face")
            self.done.add(receipt)

    async def _in_jobs(self, collection: CollectionRecord, jobs: Iterable[_Job]) -> None:
        """End what jobs have of erased subjects and images, and let none enrol them."""
        subjects: set[str] = set()
        images: dict[str, float] = {}
        for job in jobs:
            if job.tenant != collection.tenant:
                continue
            for name, digest in job.images:
                at = self._book.erased_at(Mark("image", collection.id, digest))
                if at is not None and job.created_at <= at:
                    images[digest] = at
                if job.collection_id != collection.id:
                    continue
                subject = _subject_of(job, name)
                at = None if subject is None else self._subject_erased_at(collection, subject)
                if subject is not None and at is not None and job.created_at <= at:
                    subjects.add(subject)
        if not subjects and not images:
            return
        records = self._stores.records
        await records.erasures.note(collection.id, subjects=subjects, images=images)
        trace = Trace(collection.tenant, collection.id, images, frozenset(subjects))
        erased = await records.job_erasure.erase(trace, subject_in, unfinished="all")
        if erased.objects:
            await self._forgetting.drop_objects(erased.objects)
        self.done.job_images += erased.items

    def _subject_erased_at(self, collection: CollectionRecord, name: str) -> float | None:
        times = (
            self._book.erased_at(Mark("subject", collection.id, name)),
            self._receipts.get((collection.name, name)),
        )
        return max((at for at in times if at is not None), default=None)


def _subject_of(job: _Job, image: str) -> str | None:
    source = job.options.get("subject_from")
    named = job.options.get("subject") if source is None else subject_in(source, image)
    return None if named is None else str(named)


async def _jobs(settings: Settings) -> list[_Job]:
    """Read the jobs that were restored."""
    found: dict[str, _Job] = {}
    async with record_snapshot(records_url(settings), records_files(settings)) as snapshot:
        columns = snapshot.columns("jobs")
        async for rows in snapshot.rows("jobs"):
            for row in rows:
                job = dict(zip(columns, row, strict=True))
                found[job["id"]] = _Job(
                    created_at=job["created_at"],
                    collection_id=job["collection_id"],
                    tenant=job["tenant"],
                    options=json.loads(job["options"]),
                    images=[],
                )
        columns = snapshot.columns("job_items")
        async for rows in snapshot.rows("job_items"):
            for row in rows:
                item = dict(zip(columns, row, strict=True))
                found[item["job_id"]].images.append((item["name"], item["sha256"]))
    return list(found.values())

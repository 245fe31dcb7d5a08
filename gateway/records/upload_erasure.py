"""Removes erased people from an upload at its end.

An erasure leaves jobs alone whose images are still arriving: an image may be stored before anybody
knows what it shows. It leaves a note instead. An upload that was begun before reads the notes in
the transaction that submits its job, so that no worker sees what was erased meanwhile.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records.erasures import named_in_upload, shown_in_any_upload, shown_in_upload
from gateway.records.job_erasure import ErasedItems, SubjectOf, Trace, erase_items
from gateway.records.job_rows import lock_job
from gateway.records.job_tables import JOB_ITEMS
from gateway.records.job_types import JobRecord
from gateway.records.people_tables import ERASURES
from gateway.records.tables import COLLECTIONS

_AT_ONCE = 500


async def erase_upload(
    connection: AsyncConnection, job: JobRecord, *, subject_of: SubjectOf, erased: ErasedItems
) -> JobRecord:
    """End the images of a job that show or name somebody who was erased since it was made.

    The transaction has locked the job, and submits or cancels it. Returns the job as it is now;
    adds to `erased`. All images end if the collection that the job enrols into is gone.
    """
    notes = await _notes(connection, job)
    is_gone = await _lost_its_collection(connection, job)
    if not notes and not is_gone:
        return job
    after = -1
    while rows := await _page(connection, job, after):
        after = rows[-1][0]
        indexes, subjects = [], set[str]()
        for index, name, image in rows:
            subject = _subject(job, name, subject_of)
            if is_gone or _is_noted(notes, job, subject, image):
                indexes.append(index)
                subjects |= set() if subject is None else {subject}
        if indexes:
            trace = Trace(job.tenant, job.collection_id or "", subjects=frozenset(subjects))
            await erase_items(connection, job.id, indexes, trace, erased, unfinished="all")
    return await lock_job(connection, job.id) or job


async def _notes(connection: AsyncConnection, job: JobRecord) -> frozenset[str]:
    """Return what was erased since the job was made, from all collections of its tenant."""
    query = (
        select(ERASURES.c.digest)
        .join(COLLECTIONS, COLLECTIONS.c.id == ERASURES.c.collection_id)
        .where(COLLECTIONS.c.tenant == job.tenant, ERASURES.c.erased_at > job.created_at)
    )
    return frozenset((await connection.execute(query)).scalars())


async def _lost_its_collection(connection: AsyncConnection, job: JobRecord) -> bool:
    if job.collection_id is None:
        return False
    query = select(COLLECTIONS.c.state).where(COLLECTIONS.c.id == job.collection_id)
    return await connection.scalar(query) != "active"


async def _page(
    connection: AsyncConnection, job: JobRecord, after: int
) -> Sequence[tuple[int, str, str]]:
    columns = (JOB_ITEMS.c.index, JOB_ITEMS.c.name, JOB_ITEMS.c.sha256)
    query = select(*columns).where(JOB_ITEMS.c.job_id == job.id, JOB_ITEMS.c.index > after)
    rows = await connection.execute(query.order_by(JOB_ITEMS.c.index).limit(_AT_ONCE))
    return [tuple(row) for row in rows]


def _subject(job: JobRecord, name: str, subject_of: SubjectOf) -> str | None:
    """Return the subject that an image names; None unless the job enrols."""
    if job.collection_id is None:
        return None
    source = job.options.get("subject_from")
    subject: str | None = job.options.get("subject")
    return subject if source is None else subject_of(source, name)


def _is_noted(notes: frozenset[str], job: JobRecord, subject: str | None, image: str) -> bool:
    marks = {shown_in_any_upload(job.tenant, image)}
    if job.collection_id is not None:
        marks.add(shown_in_upload(job.collection_id, image))
        if subject is not None:
            marks.add(named_in_upload(job.collection_id, subject))
    return not notes.isdisjoint(marks)

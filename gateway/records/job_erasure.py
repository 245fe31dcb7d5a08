"""Removes people from jobs: results, names and images of job items that show or name them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from sqlalchemy import and_, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records import clock
from gateway.records.database import Database
from gateway.records.job_rows import Ended, end_items, lock_job, save_job
from gateway.records.job_tables import JOB_ITEMS, JOB_RESULTS, JOBS
from gateway.records.job_types import UNFINISHED_STATES, ItemOutcome, JobRecord, SealedResult

_AT_ONCE: Final = 500
_CODE: Final = "not_found"
_DETAIL: Final = "what this image showed was deleted"
_GONE_STATES: Final = ("receiving", "expired")
Unfinished = Literal["none", "here", "all"]
"""Which images that have not ended are ended: those of jobs that enrol into the collection, or all
that show or name the person."""
SubjectOf = Callable[[str, str], str | None]
"""Names the subject of an image by the source (`folder`, `name`) and the name of the image."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Whom to look for in the jobs of a tenant.

    images: SHA-256 of images that show them, and until when: results that were made later are about
    somebody who was enrolled again. subjects: names in the collection, looked for in jobs
    that enrol into it.
    """

    tenant: str
    collection_id: str
    images: Mapping[str, float] = field(default_factory=dict)
    subjects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TracedItem:
    """An image of a job that shows or names a person; result: its answer, if there is one."""

    job: JobRecord
    index: int
    name: str
    status: str
    code: str | None
    detail: str | None
    result: SealedResult | None


@dataclass(slots=True)
class ErasedItems:
    """How many results were removed, and the keys of images that are not needed any more."""

    results: int = 0
    items: int = 0
    objects: list[str] = field(default_factory=list)


class JobErasure:
    """Finds people in jobs, and removes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, trace: Trace, subject_of: SubjectOf) -> list[TracedItem]:
        """Return all images of jobs that show or name a person."""
        found: list[TracedItem] = []
        for job_id, indexes in (await self._matching(trace, subject_of)).items():
            async with self._database.read() as connection:
                job = await _read_job(connection, job_id)
                for part in _parts(sorted(indexes)):
                    found += [_traced(job, row) for row in await _items(connection, job_id, part)]
        return found

    async def erase(
        self, trace: Trace, subject_of: SubjectOf, *, unfinished: Unfinished
    ) -> ErasedItems:
        """Remove results, names and digests of a person's images.

        Images that have not ended end as errors, as `unfinished` says. Whoever works on one of them
        cannot end it any more.
        """
        erased = ErasedItems()
        await self._let_uploads_end(trace.tenant)
        for job_id, indexes in sorted((await self._matching(trace, subject_of)).items()):
            for part in _parts(sorted(indexes)):
                async with self._database.write() as connection:
                    await erase_items(
                        connection, job_id, part, trace, erased, unfinished=unfinished
                    )
        return erased

    async def erase_collection(self, trace: Trace) -> ErasedItems:
        """Remove the results of all jobs that enrol into a collection."""
        erased = ErasedItems()
        await self._let_uploads_end(trace.tenant)
        query = select(JOBS.c.id).where(
            JOBS.c.collection_id == trace.collection_id, JOBS.c.state.not_in(_GONE_STATES)
        )
        async with self._database.read() as connection:
            job_ids = sorted((await connection.execute(query)).scalars())
        for job_id in job_ids:
            async with self._database.read() as connection:
                mine = select(JOB_ITEMS.c.index).where(JOB_ITEMS.c.job_id == job_id)
                indexes = sorted((await connection.execute(mine)).scalars())
            for part in _parts(indexes):
                async with self._database.write() as connection:
                    await erase_items(connection, job_id, part, trace, erased, unfinished="here")
        return erased

    async def _let_uploads_end(self, tenant: str) -> None:
        """Wait for uploads that are being submitted right now: they may have read no note.

        What is submitted later reads it, see `upload_erasure.py`.
        """
        if self._database.has_one_writer:
            return
        arriving = select(JOBS.c.id).where(JOBS.c.tenant == tenant, JOBS.c.state == "receiving")
        async with self._database.write() as connection:
            await connection.execute(arriving.order_by(JOBS.c.id).with_for_update(read=True))

    async def _matching(self, trace: Trace, subject_of: SubjectOf) -> dict[str, set[int]]:
        """Return the indexes of matching images by job."""
        found: dict[str, set[int]] = {}
        mine = and_(JOBS.c.tenant == trace.tenant, JOBS.c.state.not_in(_GONE_STATES))
        with_jobs = JOB_ITEMS.join(JOBS, JOBS.c.id == JOB_ITEMS.c.job_id).outerjoin(
            JOB_RESULTS,
            and_(
                JOB_RESULTS.c.job_id == JOB_ITEMS.c.job_id,
                JOB_RESULTS.c.index == JOB_ITEMS.c.index,
            ),
        )
        columns = (JOB_ITEMS.c.job_id, JOB_ITEMS.c.index, JOB_ITEMS.c.sha256)
        async with self._database.read() as connection:
            for part in _parts(sorted(trace.images)):
                query = select(*columns, JOB_RESULTS.c.finished_at).select_from(with_jobs)
                query = query.where(JOB_ITEMS.c.sha256.in_(part), mine)
                for job_id, index, image, at in await connection.execute(query):
                    if at is None or at <= trace.images[image]:
                        found.setdefault(job_id, set()).add(index)
            if not trace.subjects:
                return found
            into = and_(JOBS.c.collection_id == trace.collection_id, mine)
            jobs = (await connection.execute(select(JOBS.c.id, JOBS.c.options).where(into))).all()
            for job_id, options in jobs:
                names = select(JOB_ITEMS.c.index, JOB_ITEMS.c.name)
                names = names.where(JOB_ITEMS.c.job_id == job_id)
                source = options.get("subject_from")
                if source is None and options.get("subject") not in trace.subjects:
                    continue
                for index, name in await connection.execute(names):
                    if source is None or subject_of(source, name) in trace.subjects:
                        found.setdefault(job_id, set()).add(index)
        return found


async def erase_items(
    connection: AsyncConnection,
    job_id: str,
    indexes: Sequence[int],
    trace: Trace,
    erased: ErasedItems,
    *,
    unfinished: Unfinished,
) -> None:
    """Remove what a job has of some of its images."""
    job = await lock_job(connection, job_id)
    if job is None or job.state in _GONE_STATES:
        return
    rows = await _items(connection, job_id, indexes)
    enrols_here = job.collection_id == trace.collection_id
    ended = [row for row in rows if row["status"] is not None]
    ends = unfinished == "all" or (unfinished == "here" and enrols_here)
    left = [row for row in rows if row["status"] is None and ends]
    gone = [row["index"] for row in (*ended, *left)]
    if not gone:
        return
    mine = (JOB_RESULTS.c.job_id == job_id, JOB_RESULTS.c.index.in_(gone))
    error = {"status": "error", "code": _CODE, "detail": _DETAIL}
    blank = dict.fromkeys(("key_id", "nonce", "sealed"))
    await connection.execute(update(JOB_RESULTS).where(*mine).values(**error, **blank))
    for row in (*ended, *left):
        values: dict[str, Any] = {"name": f"image-{row['index']}", "sha256": "", "object_key": None}
        values |= {"code": None, "detail": None}
        if row["status"] is None and job.state in UNFINISHED_STATES:
            values |= {"state": "ended", "worker": None}
        item = and_(JOB_ITEMS.c.job_id == job_id, JOB_ITEMS.c.index == row["index"])
        await connection.execute(update(JOB_ITEMS).where(item).values(values))
    worked = sum(row["status"] == "ok" for row in ended)
    if worked:
        job = replace(job, done=job.done - worked, failed=job.failed + worked)
        await save_job(connection, job)
    if job.state in UNFINISHED_STATES:
        outcome = ItemOutcome("error", None, _CODE, _DETAIL)
        open_ones = [Ended(row["index"], outcome) for row in left]
        await end_items(connection, job, open_ones, at=clock.now())
    if enrols_here and job.options.get("subject") in trace.subjects:
        options = {**job.options, "subject": None, "metadata": {}, "consent": None, "purpose": None}
        await connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(options=options))
    erased.results += len(ended)
    erased.items += len(gone)
    erased.objects += [row["object_key"] for row in (*ended, *left) if row["object_key"]]


async def _items(
    connection: AsyncConnection, job_id: str, indexes: Sequence[int]
) -> Sequence[RowMapping]:
    together = JOB_ITEMS.outerjoin(
        JOB_RESULTS,
        and_(
            JOB_RESULTS.c.job_id == JOB_ITEMS.c.job_id,
            JOB_RESULTS.c.index == JOB_ITEMS.c.index,
        ),
    )
    columns = (JOB_RESULTS.c.status, JOB_RESULTS.c.code, JOB_RESULTS.c.detail)
    sealed = (JOB_RESULTS.c.key_id, JOB_RESULTS.c.nonce, JOB_RESULTS.c.sealed)
    query = (
        select(JOB_ITEMS.c.index, JOB_ITEMS.c.name, JOB_ITEMS.c.object_key, *columns, *sealed)
        .select_from(together)
        .where(JOB_ITEMS.c.job_id == job_id, JOB_ITEMS.c.index.in_(indexes))
        .order_by(JOB_ITEMS.c.index)
    )
    return (await connection.execute(query)).mappings().all()


async def _read_job(connection: AsyncConnection, job_id: str) -> JobRecord:
    row = (await connection.execute(select(JOBS).where(JOBS.c.id == job_id))).mappings().one()
    return JobRecord(**{name: value for name, value in row.items() if name != "served"})


def _traced(job: JobRecord, row: RowMapping) -> TracedItem:
    sealed = None
    if row["sealed"] is not None:
        sealed = SealedResult(row["key_id"], row["nonce"], row["sealed"])
    return TracedItem(
        job=job,
        index=row["index"],
        name=row["name"],
        status=row["status"] or "queued",
        code=row["code"],
        detail=row["detail"],
        result=sealed,
    )


def _parts(items: Sequence[Any]) -> list[Any]:
    return [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]

"""Jobs for the tests of records: made, filled, submitted, claimed."""

import uuid

from gateway.records import clock
from gateway.records.job_types import (
    ItemOutcome,
    JobRecord,
    LeasedItem,
    NewItem,
    Operation,
    SealedResult,
    WorkerRecord,
)
from gateway.records.store import RecordStore

LEASE_SECONDS = 30.0


def a_job(
    tenant: str = "default", *, operation: Operation = "score", webhook: str | None = None
) -> JobRecord:
    """A job that is about to be received."""
    return JobRecord(
        id=str(uuid.uuid4()),
        tenant=tenant,
        actor="alice",
        operation=operation,
        created_at=clock.now(),
        options={"include": ["quality"], "max_faces": 5},
        webhook_url=webhook,
    )


def an_item(job_id: str, index: int) -> NewItem:
    """An image whose object is stored."""
    return NewItem(index, f"{index}.jpg", f"{index:064x}", f"{job_id}/{index:06d}", 1000 + index)


def a_refusal(index: int) -> NewItem:
    """An image that is too large."""
    return NewItem(index, f"{index}.jpg", "0" * 64, None, 99, "image_too_large", "99 megabytes")


async def submitted(
    records: RecordStore,
    number: int,
    tenant: str = "default",
    *,
    operation: Operation = "score",
    webhook: str | None = None,
) -> JobRecord:
    """A job that waits for a worker."""
    job = a_job(tenant, operation=operation, webhook=webhook)
    await records.jobs.create(job)
    await records.jobs.add_items(job.id, [an_item(job.id, i) for i in range(number)])
    return await records.jobs.submit(job.id)


async def claim(
    records: RecordStore,
    worker: str = "w",
    *,
    limit: int = 8,
    operation: str = "score",
    max_attempts: int = 5,
) -> tuple[LeasedItem, ...]:
    """A slice, leased for `LEASE_SECONDS`."""
    return await records.job_queue.claim(
        worker,
        operations=[operation],
        limit=limit,
        lease_seconds=LEASE_SECONDS,
        max_attempts=max_attempts,
    )


def well(text: str = "{}") -> ItemOutcome:
    """A good end, with a text in place of an encrypted answer."""
    return ItemOutcome("ok", SealedResult("key", b"nonce", text.encode()))


def badly(code: str = "no_face") -> ItemOutcome:
    """An end with an error."""
    return ItemOutcome("error", None, code, "the photo shows no face")


async def found(records: RecordStore, job: JobRecord) -> JobRecord:
    """The job as it is now."""
    now = await records.jobs.get(job.tenant, job.id)
    assert now is not None
    return now


def a_worker(name: str = "w", **changes: float) -> WorkerRecord:
    """A heartbeat of now."""
    return WorkerRecord(
        name=name,
        host="here",
        pid=4321,
        started_at=clock.now(),
        seen_at=clock.now(),
        concurrency=4,
        operations=("score", "detect"),
        counters={"ok": 1.0, **changes},
    )

"""Contract of the records of jobs, on SQLite and on PostgreSQL; the queue: test_job_queue.py."""

import asyncio
import uuid
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from gateway.errors import ConflictError, NotFoundError
from gateway.records.job_tables import JOB_ITEMS, JOB_RESULTS, JOBS
from gateway.records.job_types import IDLE_SECONDS, JobDepth, JobRecord, SealedResult
from gateway.records.store import RecordStore
from tests.support.job_records import (
    a_job,
    a_refusal,
    an_item,
    badly,
    claim,
    found,
    submitted,
    well,
)
from tests.support.records import SetClock

DAY = 86_400.0


async def rows_of(records: RecordStore, job: JobRecord) -> tuple[int, int, int]:
    """Rows of a job, its images and its results."""
    async with records._database.read() as connection:
        counts = [
            await connection.scalar(select(func.count()).select_from(table).where(of == job.id))
            for table, of in (
                (JOBS, JOBS.c.id),
                (JOB_ITEMS, JOB_ITEMS.c.job_id),
                (JOB_RESULTS, JOB_RESULTS.c.job_id),
            )
        ]
    return (counts[0] or 0, counts[1] or 0, counts[2] or 0)


async def ended(records: RecordStore, job: JobRecord, *, errors: int = 0) -> JobRecord:
    """End all images of the only job, the first ones with an error."""
    while items := await claim(records):
        ends = (
            records.job_queue.finish(
                item, badly() if item.index < errors else well(f"{item.index}")
            )
            for item in items
        )
        # together: they share a commit, which takes a disk some milliseconds
        assert all(await asyncio.gather(*ends))
    return await found(records, job)


async def test_a_job_from_its_images_to_its_results(
    records: RecordStore, set_clock: SetClock
) -> None:
    job = replace(a_job(), collection_id=str(uuid.uuid4()), collection="people")
    await records.jobs.create(job)
    assert await records.jobs.get(job.tenant, job.id) == replace(
        job, expires_at=set_clock.at + 3600
    )
    assert await claim(records) == ()
    await records.jobs.add_items(job.id, [an_item(job.id, 0), a_refusal(1)])
    await records.jobs.add_items(job.id, [an_item(job.id, index) for index in range(2, 1200)])
    assert await claim(records) == (), "claimed before all images are there"
    waiting = await records.jobs.submit(job.id, skipped=3)
    assert waiting == replace(
        job,
        state="queued",
        total=1200,
        failed=1,
        skipped=3,
        sequence=1,
        expires_at=set_clock.at + IDLE_SECONDS,
    )
    assert await records.jobs.get(job.tenant, job.id) == waiting
    assert await records.jobs.get("another", job.id) is None
    set_clock.move(5)
    items = await claim(records, limit=3)
    assert [item.index for item in items] == [0, 2, 3]
    running = replace(waiting, state="running", started_at=set_clock.at)
    assert items[1].job == await found(records, job) == running
    first = items[1]
    assert (first.name, first.sha256, first.object_key) == (
        "2.jpg",
        f"{2:064x}",
        f"{job.id}/000002",
    )
    assert (first.lease, first.attempts, first.lost, first.key) == (1, 1, 0, (job.id, 2))
    set_clock.move(1)
    assert await records.job_queue.finish(items[1], well("two"))
    assert await records.job_queue.finish(items[0], badly())
    assert await found(records, job) == replace(
        running, done=1, failed=2, sequence=3, expires_at=set_clock.at + IDLE_SECONDS
    )
    page = await records.jobs.results(job.id, limit=4)
    assert [(r.index, r.status, r.code, r.sequence) for r in page] == [
        (0, "error", "no_face", 3),
        (1, "error", "image_too_large", 1),
        (2, "ok", None, 2),
        (3, "queued", None, None),
    ]
    assert page[2].result == SealedResult("key", b"nonce", b"two")
    assert (page[2].finished_at, page[2].attempts, page[2].name) == (set_clock.at, 1, "2.jpg")
    assert (page[0].result, page[0].detail) == (None, "the photo shows no face")
    behind = await records.jobs.results(job.id, limit=2, after_index=page[-1].index)
    assert [r.index for r in behind] == [4, 5]
    assert [r.index for r in await records.jobs.results(job.id, limit=9, status="ok")] == [2]
    errors = await records.jobs.results(job.id, limit=9, status="error", after_index=0)
    assert [r.index for r in errors] == [1]
    queued = await records.jobs.results(job.id, limit=2, status="queued")
    assert [r.index for r in queued] == [3, 4]
    assert await records.jobs.results(job.id, limit=2, status="cancelled") == ()
    events = await records.jobs.events(job.id, limit=9)
    assert [(e.index, e.sequence) for e in events] == [(1, 1), (2, 2), (0, 3)]
    assert await records.jobs.events(job.id, limit=9, after_sequence=2) == events[2:]
    assert await records.jobs.events(job.id, limit=1, after_sequence=1) == events[1:2]
    assert await records.job_queue.finish(items[2], well())
    over = await ended(records, job)
    assert over == replace(
        running,
        state="done",
        done=1198,
        failed=2,
        sequence=1200,
        finished_at=set_clock.at,
        expires_at=set_clock.at + DAY,
    )


async def test_receiving_ends_with_the_job_or_without_it(
    records: RecordStore, set_clock: SetClock
) -> None:
    job = a_job()
    with pytest.raises(NotFoundError):
        await records.jobs.add_items(job.id, [an_item(job.id, 0)])
    await records.jobs.create(job)
    await records.jobs.add_items(job.id, [an_item(job.id, 0)])
    with pytest.raises(IntegrityError):
        await records.jobs.add_items(job.id, [an_item(job.id, 1), an_item(job.id, 0)])
    assert await rows_of(records, job) == (1, 1, 0)
    for control in (records.jobs.pause, records.jobs.resume, records.jobs.retry_failed):
        with pytest.raises(ConflictError, match="still arriving"):
            await control(job.tenant, job.id)
    assert await records.jobs.discard(job.id)
    assert await records.jobs.discard(job.id)
    assert await rows_of(records, job) == (0, 0, 0)
    with pytest.raises(NotFoundError):
        await records.jobs.submit(job.id)
    cancelled = a_job()
    await records.jobs.create(cancelled)
    await records.jobs.add_items(cancelled.id, [an_item(cancelled.id, 0)])
    over = await records.jobs.cancel(cancelled.tenant, cancelled.id)
    assert (over.state, over.expires_at) == ("cancelled", set_clock.at + DAY)
    with pytest.raises(ConflictError, match="cancelled while its images arrived"):
        await records.jobs.add_items(cancelled.id, [an_item(cancelled.id, 1)])
    with pytest.raises(ConflictError, match="cancelled while its images arrived"):
        await records.jobs.submit(cancelled.id)
    assert await records.jobs.discard(cancelled.id), "its images must go"
    assert await found(records, cancelled) == over
    kept = await submitted(records, 1)
    assert not await records.jobs.discard(kept.id)
    assert await rows_of(records, kept) == (1, 1, 0)
    with pytest.raises(ConflictError, match="submitted before"):
        await records.jobs.submit(kept.id)
    with pytest.raises(ConflictError, match="submitted before"):
        await records.jobs.add_items(kept.id, [an_item(kept.id, 5)])
    refused = a_job(webhook="https://there")
    await records.jobs.create(refused)
    await records.jobs.add_items(refused.id, [a_refusal(0)])
    done = await records.jobs.submit(refused.id)
    assert (done.state, done.failed, done.finished_at) == ("done", 1, set_clock.at)
    assert (done.webhook_state, done.webhook_at) == ("due", set_clock.at)
    with pytest.raises(ConflictError, match="no failed image"):
        await records.jobs.retry_failed(refused.tenant, refused.id)


async def test_any_name_of_a_file_is_kept(records: RecordStore) -> None:
    job = a_job()
    await records.jobs.create(job)
    names = ["süß 😀.jpg", "nul\0.jpg", "half \ud83d.jpg", "x" * 5000]
    items = [replace(an_item(job.id, index), name=name) for index, name in enumerate(names)]
    items.append(replace(a_refusal(len(items)), detail="nul\0"))
    await records.jobs.add_items(job.id, items)
    kept = await records.jobs.results(job.id, limit=9)
    assert [item.name for item in kept[:4]] == [
        names[0],
        "nul\ufffd.jpg",
        "half ?.jpg",
        names[3],
    ]
    assert kept[4].detail == "nul\ufffd"


async def test_pages_newest_first(records: RecordStore, set_clock: SetClock) -> None:
    jobs = []
    for number in range(5):
        jobs.append(await submitted(records, 1))
        set_clock.move(number % 2)
    await submitted(records, 1, "another")
    await records.jobs.create(a_job())
    await records.jobs.cancel("default", jobs[1].id)
    seen: list[JobRecord] = []
    while page := await records.jobs.page(
        "default", limit=2, after=(seen[-1].created_at, seen[-1].id) if seen else None
    ):
        seen += page
    assert seen == sorted(seen, key=lambda job: (job.created_at, job.id), reverse=True)
    assert {job.id for job in seen} == {job.id for job in jobs}
    (cancelled,) = await records.jobs.page("default", limit=9, states=["cancelled", "done"])
    assert cancelled.id == jobs[1].id
    assert len(await records.jobs.page("default", limit=9, states=["receiving"])) == 1


async def test_a_cancelled_job_ends_for_its_workers_too(
    records: RecordStore, set_clock: SetClock
) -> None:
    job = await submitted(records, 5, webhook="https://there")
    items = await claim(records, limit=3)
    assert await records.job_queue.finish(items[0], well())
    set_clock.move(2)
    over = await records.jobs.cancel(job.tenant, job.id)
    assert (over.state, over.done, over.open) == ("cancelled", 1, 4)
    assert (over.finished_at, over.expires_at) == (set_clock.at, set_clock.at + DAY)
    assert over.webhook_state == "due"
    assert await records.jobs.cancel(job.tenant, job.id) == over
    queue = records.job_queue
    assert await queue.renew("w", items, 30) == set()
    assert not await queue.finish(items[1], well())
    assert not await queue.retry_later(items[1], delay_seconds=0, code="x", detail="y")
    assert await queue.release(items) == 0
    assert await claim(records) == ()
    assert [r.status for r in await records.jobs.results(job.id, limit=9)] == [
        "ok",
        *["cancelled"] * 4,
    ]
    assert len(await records.jobs.results(job.id, limit=9, status="cancelled")) == 4
    assert await records.jobs.results(job.id, limit=9, status="queued") == ()
    assert await found(records, job) == over
    for control in (records.jobs.pause, records.jobs.resume, records.jobs.retry_failed):
        with pytest.raises(ConflictError, match="the job is cancelled"):
            await control(job.tenant, job.id)
    with pytest.raises(NotFoundError):
        await records.jobs.cancel("another", job.id)


async def test_a_paused_job_ends_what_is_held_and_continues(records: RecordStore) -> None:
    job = await submitted(records, 3)
    assert (await records.jobs.pause(job.tenant, job.id)).state == "paused"
    assert await claim(records) == ()
    assert (await records.jobs.resume(job.tenant, job.id)).state == "queued"
    items = await claim(records, limit=2)
    paused = await records.jobs.pause(job.tenant, job.id)
    assert await records.jobs.pause(job.tenant, job.id) == paused
    assert await claim(records) == ()
    assert await records.job_queue.renew("w", items, 30) == {items[0].key, items[1].key}
    assert await records.job_queue.finish(items[0], well())
    assert await records.job_queue.release([items[1]]) == 1
    assert (await found(records, job)).state == "paused"
    resumed = await records.jobs.resume(job.tenant, job.id)
    assert resumed.state == "running"
    assert await records.jobs.resume(job.tenant, job.id) == resumed
    (again, last) = await claim(records)
    await records.jobs.pause(job.tenant, job.id)
    assert await records.job_queue.finish(again, well())
    assert await records.job_queue.finish(last, badly())
    done = await found(records, job)
    assert (done.state, done.done, done.failed) == ("done", 2, 1)
    for control in (records.jobs.pause, records.jobs.resume, records.jobs.cancel):
        with pytest.raises(ConflictError, match="the job is done"):
            await control(job.tenant, job.id)


async def test_failed_images_are_repeated(records: RecordStore, set_clock: SetClock) -> None:
    job = a_job(webhook="https://there")
    await records.jobs.create(job)
    items = [*(an_item(job.id, index) for index in range(5)), a_refusal(5)]
    await records.jobs.add_items(job.id, items)
    await records.jobs.submit(job.id)
    before = await ended(records, job, errors=2)
    assert (before.state, before.done, before.failed, before.sequence) == ("done", 3, 3, 6)
    claimed = await records.job_queue.claim_webhook()
    assert claimed is not None
    set_clock.move(7)
    again = await records.jobs.retry_failed(job.tenant, job.id)
    assert (again.state, again.done, again.failed, again.open) == ("queued", 3, 1, 2)
    assert (again.finished_at, again.webhook_state) == (None, "none")
    assert again.expires_at == set_clock.at + IDLE_SECONDS
    assert not await records.job_queue.webhook_sent(claimed), "of the end before"
    assert [r.index for r in await records.jobs.results(job.id, limit=9, status="error")] == [5]
    repeated = await claim(records)
    assert [(item.index, item.attempts, item.lease) for item in repeated] == [(0, 1, 2), (1, 1, 2)]
    assert await records.job_queue.finish(repeated[0], well())
    # while it runs, too
    assert await records.job_queue.finish(repeated[1], badly())
    over = await found(records, job)
    assert (over.state, over.done, over.failed, over.sequence) == ("done", 4, 2, 8)
    assert (over.started_at, over.finished_at) == (before.started_at, set_clock.at)
    assert over.webhook_state == "due"
    assert not await records.job_queue.webhook_sent(claimed), "of the end before"
    events = await records.jobs.events(job.id, limit=9, after_sequence=6)
    assert [(event.index, event.sequence) for event in events] == [(0, 7), (1, 8)]


async def test_what_is_over_is_removed(records: RecordStore, set_clock: SetClock) -> None:
    jobs = records.jobs
    started = set_clock.at
    over = await ended(records, await submitted(records, 1100), errors=1)
    refreshed, abandoned = a_job(), a_job()
    for job in (refreshed, abandoned):
        await jobs.create(job)
        await jobs.add_items(job.id, [an_item(job.id, 0)])
    set_clock.move(1800)
    await jobs.add_items(refreshed.id, [an_item(refreshed.id, 1)])
    cancelled, waiting = await submitted(records, 2), await submitted(records, 2)
    await jobs.cancel(cancelled.tenant, cancelled.id)
    everything = [over.id, refreshed.id, abandoned.id, cancelled.id, waiting.id, "unknown"]
    assert await jobs.needing_objects(everything) == {
        over.id,
        refreshed.id,
        abandoned.id,
        waiting.id,
    }
    assert await jobs.expire(started + 3599) == ()
    assert await jobs.expire(started + 3601) == (abandoned.id,)
    assert await rows_of(records, abandoned) == (0, 0, 0)
    assert set(await jobs.expire(started + DAY + 1)) == {refreshed.id, over.id}
    gone = await found(records, over)
    assert gone == replace(over, state="expired")
    assert await rows_of(records, over) == (1, 0, 0)
    assert await jobs.results(over.id, limit=9) == ()
    with pytest.raises(ConflictError, match="the job is expired"):
        await jobs.retry_failed(over.tenant, over.id)
    assert await jobs.needing_objects(everything) == {waiting.id}
    assert await jobs.expire(started + DAY + 1) == ()
    assert await jobs.expire(started + 6 * DAY) == (cancelled.id,)
    assert await jobs.forget(started + DAY) == 0
    assert await jobs.forget(started + DAY + 1) == 1
    assert await rows_of(records, over) == (0, 0, 0)
    assert (await found(records, waiting)).state == "queued"


async def test_a_job_to_which_nothing_happens_is_cancelled(
    records: RecordStore, set_clock: SetClock
) -> None:
    jobs = records.jobs
    waiting, paused, worked_on = [await submitted(records, 3) for _ in range(3)]
    set_clock.move(IDLE_SECONDS - 60)
    await jobs.pause(paused.tenant, paused.id)
    # what was held when it was paused still ends
    held = [*await claim(records, limit=1), *await claim(records, limit=1)]
    (image,) = (item for item in held if item.job.id == worked_on.id)
    assert await records.job_queue.finish(image, well())
    set_clock.move(60)
    assert await jobs.expire(set_clock.at) == (waiting.id,)
    over = await found(records, waiting)
    assert (over.state, over.open, over.expires_at) == ("cancelled", 3, set_clock.at + DAY)
    set_clock.move(IDLE_SECONDS - 60)
    assert set(await jobs.expire(set_clock.at)) == {waiting.id, paused.id, worked_on.id}
    results = await jobs.results(worked_on.id, limit=9)
    assert [result.status for result in results] == ["ok", "cancelled", "cancelled"]


async def test_an_interrupted_removal_is_completed(records: RecordStore) -> None:
    job = await ended(records, await submitted(records, 3))
    async with records._database.write() as connection:
        await connection.execute(text("UPDATE jobs SET state = 'expired'"))
    assert await records.jobs.expire(0.0) == (job.id,)
    assert await rows_of(records, job) == (1, 0, 0)
    half = a_job()
    await records.jobs.create(half)
    await records.jobs.add_items(half.id, [an_item(half.id, 0)])
    async with records._database.write() as connection:
        await connection.execute(text("UPDATE jobs SET expires_at = 0 WHERE state = 'receiving'"))
    with pytest.raises(NotFoundError):
        await records.jobs.submit(half.id)
    assert await records.jobs.expire(1.0) == (half.id,)
    assert await rows_of(records, half) == (0, 0, 0)


async def test_the_depth_counts_all_tenants(records: RecordStore, set_clock: SetClock) -> None:
    assert await records.jobs.depth() == JobDepth(0, 0, None, {})
    first = await submitted(records, 10, "a")
    set_clock.move(60)
    await submitted(records, 5, "b")
    paused = await submitted(records, 5, "b")
    await records.jobs.pause("b", paused.id)
    items = await claim(records)
    assert items[0].job.id == first.id
    states = {"running": 1, "queued": 1, "paused": 1}
    assert await records.jobs.depth() == JobDepth(7, 8, 60.0, states)
    await records.job_queue.finish(items[0], well())
    assert await records.jobs.depth() == JobDepth(7, 7, 60.0, states)
    set_clock.move(31)
    assert await records.jobs.depth() == JobDepth(14, 0, 91.0, states)

"""What an upload loses of people who were erased while it arrived, on both databases."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from gateway.collections.names import subject_in
from gateway.records.erasures import KEPT_SECONDS
from gateway.records.job_erasure import ErasedItems, Trace
from gateway.records.job_types import JobRecord
from gateway.records.store import RecordStore
from gateway.records.types import CollectionRecord
from gateway.records.upload_erasure import erase_upload
from tests.support.face_records import a_collection
from tests.support.job_records import a_job, an_item, claim, found
from tests.support.records import SetClock

ITEMS = 3


@pytest.fixture
async def collection(records: RecordStore) -> CollectionRecord:
    made = a_collection()
    await records.collections.add(made)
    return made


async def arriving(records: RecordStore, job: JobRecord, names: list[str] | None = None) -> None:
    await records.jobs.create(job)
    items = [an_item(job.id, index) for index in range(ITEMS)]
    if names is not None:
        items = [replace(item, name=name) for item, name in zip(items, names, strict=True)]
    await records.jobs.add_items(job.id, items)


async def submit(records: RecordStore, job: JobRecord) -> tuple[JobRecord, list[str]]:
    erased = ErasedItems()
    change = partial(erase_upload, subject_of=subject_in, erased=erased)
    return await records.jobs.submit(job.id, change=change), erased.objects


async def codes(records: RecordStore, job: JobRecord) -> list[tuple[str, str | None]]:
    return [(each.name, each.code) for each in await records.jobs.results(job.id, limit=9)]


async def test_a_scoring_upload_loses_the_images_of_who_was_erased(
    records: RecordStore, collection: CollectionRecord, set_clock: SetClock
) -> None:
    job, others = a_job(), a_job("initech")
    for each in (job, others):
        await arriving(records, each)
    set_clock.move(1)
    images = [an_item("", index).sha256 for index in (1, 2)]
    await records.erasures.note(collection.id, images=images[:1], unfinished="all")
    # a face that is deleted is still scored: only who is erased altogether is not
    await records.erasures.note(collection.id, images=images[1:], unfinished="here")
    set_clock.move(1)
    later = a_job()
    await arriving(records, later)
    submitted, gone = await submit(records, job)
    assert (submitted.state, submitted.open, submitted.failed) == ("queued", 2, 1)
    assert gone == [an_item(job.id, 1).object_key]
    assert await codes(records, job) == [
        ("0.jpg", None),
        ("image-1", "not_found"),
        ("2.jpg", None),
    ]
    assert [item.index for item in await claim(records)] == [0, 2]
    # of another tenant, or begun since
    for each in (others, later):
        assert (await submit(records, each))[1] == []


async def test_an_enrolling_upload_loses_names_and_images(
    records: RecordStore, collection: CollectionRecord, set_clock: SetClock
) -> None:
    enrols = replace(a_job(operation="enrol"), collection_id=collection.id, collection="people")
    by_folder = replace(enrols, options={"subject_from": "folder", "subject": None})
    all_of_one = replace(enrols, id="1" * 36, options={"subject": "anna", "metadata": {"age": 36}})
    for job in (by_folder, all_of_one):
        await arriving(records, job, ["anna/1.jpg", "bert/1.jpg", "carl/1.jpg"])
    set_clock.move(1)
    await records.erasures.note(
        collection.id, subjects=["anna"], images=[an_item("", 2).sha256], unfinished="here"
    )
    # a consent that is withdrawn is refused by the worker instead
    await records.erasures.note(collection.id, subjects=["bert"])
    _, gone = await submit(records, by_folder)
    assert gone == [an_item(by_folder.id, index).object_key for index in (0, 2)]
    assert [name for name, _ in await codes(records, by_folder)] == [
        "image-0",
        "bert/1.jpg",
        "image-2",
    ]
    done, gone = await submit(records, all_of_one)
    assert (done.state, done.failed, len(gone)) == ("done", ITEMS, ITEMS)
    assert "anna" not in repr(done.options)
    assert "36" not in repr((await found(records, all_of_one)).options)


async def test_an_upload_into_a_collection_that_is_gone_ends(
    records: RecordStore, collection: CollectionRecord
) -> None:
    job = replace(a_job(operation="enrol"), collection_id=collection.id, collection="people")
    await arriving(records, job)
    await records.collections.mark_deleting(collection.id)
    done, gone = await submit(records, job)
    assert (done.state, done.failed, len(gone)) == ("done", ITEMS, ITEMS)


async def test_an_upload_that_is_cancelled_forgets_names(
    records: RecordStore, collection: CollectionRecord, set_clock: SetClock
) -> None:
    enrols = replace(a_job(operation="enrol"), collection_id=collection.id, collection="people")
    job = replace(enrols, options={"subject_from": "folder", "subject": None})
    await arriving(records, job, ["anna/1.jpg", "bert/1.jpg", "carl/1.jpg"])
    set_clock.move(1)
    await records.erasures.note(collection.id, subjects=["anna"], unfinished="here")
    change = partial(erase_upload, subject_of=subject_in, erased=ErasedItems())
    cancelled = await records.jobs.cancel(job.tenant, job.id, change=change)
    assert (cancelled.state, cancelled.failed) == ("cancelled", 0)
    results = await records.jobs.results(job.id, limit=9)
    assert [each.name for each in results] == ["image-0", "bert/1.jpg", "carl/1.jpg"]


async def test_notes_stay_while_anything_arrives(
    records: RecordStore, collection: CollectionRecord, set_clock: SetClock
) -> None:
    job = a_job()
    await arriving(records, job)
    set_clock.move(1)
    await records.erasures.note(collection.id, images=["1" * 64], unfinished="all")
    set_clock.move(KEPT_SECONDS + 1)
    assert await records.erasures.forget(set_clock.at) == 0
    await submit(records, job)
    # in the collection for enrolments, in the collection for its uploads, in the tenant
    assert await records.erasures.forget(set_clock.at) == 3


async def test_an_erasure_waits_for_an_upload_that_has_read_the_notes(
    records: RecordStore, collection: CollectionRecord, set_clock: SetClock
) -> None:
    job, has_read, go_on = a_job(), asyncio.Event(), asyncio.Event()
    await arriving(records, job)
    set_clock.move(1)
    image = an_item("", 1).sha256

    async def slow(connection: Any, job: JobRecord) -> JobRecord:
        changed = await erase_upload(connection, job, subject_of=subject_in, erased=ErasedItems())
        has_read.set()
        await go_on.wait()
        return changed

    async def erase() -> ErasedItems:
        await records.erasures.note(collection.id, images=[image], unfinished="all")
        trace = Trace(job.tenant, collection.id, {image: 9e12})
        return await records.job_erasure.erase(trace, subject_in, unfinished="all")

    submitting = asyncio.create_task(records.jobs.submit(job.id, change=slow))
    async with asyncio.timeout(10):
        await has_read.wait()
    erasing = asyncio.create_task(erase())
    # without a lock it ends at once, and misses the image
    done, _ = await asyncio.wait({erasing}, timeout=0.3)
    assert not done
    go_on.set()
    await submitting
    assert (await erasing).objects == [an_item(job.id, 1).object_key]
    assert (await codes(records, job))[1] == ("image-1", "not_found")

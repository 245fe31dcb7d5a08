"""Contract of the records for people's rights, on both databases."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.collections.names import subject_in
from gateway.errors import ConsentRequiredError, EnrolmentRefusedError, NotFoundError
from gateway.records import faces as faces_module
from gateway.records import refusals as refusals_module
from gateway.records.admission import admit
from gateway.records.erasures import KEPT_SECONDS
from gateway.records.job_erasure import Trace
from gateway.records.refusals import RefusedFace
from gateway.records.store import RecordStore
from gateway.records.types import (
    IDEMPOTENCY_SECONDS,
    Claim,
    Consent,
    FaceRecord,
    KeptAnswer,
    SealedBytes,
    Terms,
)
from tests.support.face_records import a_collection, a_face
from tests.support.job_records import a_job, an_item, badly, claim, found, submitted, well
from tests.support.records import SetClock

DAY = 86_400.0


async def enrolled(
    records: RecordStore, face: FaceRecord, terms: Terms, *, commit: bool = True
) -> FaceRecord:
    begun = await records.faces.begin([face], (), terms)
    if commit:
        assert await records.faces.commit([face.id])
    return begun.faces[0]


async def test_faces_expire_with_consent_or_retention(
    records: RecordStore, set_clock: SetClock
) -> None:
    collection, at = a_collection(), set_clock.at
    await records.collections.add(collection)
    consent = Consent("form 1", at - DAY, expires_at=at + 5 * DAY)
    faces = [
        replace(a_face(collection, 1), subject="anna", expires_at=at + 2 * DAY),
        replace(a_face(collection, 2), subject="anna", image_sha256="2" * 64, expires_at=None),
    ]
    terms = Terms(consent=consent, purpose="door", requires_consent=True)
    dated = [await enrolled(records, face, terms) for face in faces]
    assert [face.expires_at for face in dated] == [at + 2 * DAY, at + 5 * DAY]

    async def expiry() -> list[float | None]:
        stored = {face.id: face for face in await records.faces.of_subject(collection.id, "anna")}
        return [stored[face.id].expires_at for face in faces if face.id in stored]

    async def change(consent: Consent | None) -> None:
        assert await records.subjects.change(collection.id, "anna", {"consent": consent}, at=at)

    assert await expiry() == [at + 2 * DAY, at + 5 * DAY]
    await change(replace(consent, expires_at=at + DAY))
    assert await expiry() == [at + DAY, at + DAY]
    await change(replace(consent, expires_at=None))
    assert await expiry() == [at + 2 * DAY, None]
    await change(replace(consent, withdrawn_at=at))
    assert await expiry() == []
    assert await records.subjects.get(collection.id, "anna", at=at) is None
    # who is gone is not brought back by another date
    assert await records.subjects.change(collection.id, "anna", {"consent": None}, at=at) is None
    over = await records.faces.expired(at=at, limit=9)
    assert {face.id for face in over} == {face.id for face in faces}


async def test_nobody_is_enrolled_without_a_valid_consent(
    records: RecordStore, set_clock: SetClock
) -> None:
    collection, at = a_collection(), set_clock.at
    await records.collections.add(collection)
    face = replace(a_face(collection, 1), subject="anna")
    needs = Terms(requires_consent=True)
    for terms in (
        needs,
        replace(needs, consent=Consent("form 1", at - DAY, expires_at=at)),
        Terms(consent=Consent("form 1", at - DAY, withdrawn_at=at - 1)),
    ):
        with pytest.raises(ConsentRequiredError):
            await records.faces.begin([face], (), terms)
    assert await records.faces.in_state("pending") == ()
    assert await records.subjects.get(collection.id, "anna", at=at) is None
    await enrolled(records, face, replace(needs, consent=Consent("form 1", at - DAY)))
    # the subject has one now
    again = replace(a_face(collection, 2), subject="anna", image_sha256="2" * 64)
    await enrolled(records, again, needs)
    withdrawn = Consent("form 1", at - DAY, withdrawn_at=at)
    await records.subjects.change(collection.id, "anna", {"consent": withdrawn}, at=at)
    third = replace(a_face(collection, 3), subject="anna", image_sha256="3" * 64)
    with pytest.raises(ConsentRequiredError, match="withdrawn"):
        await records.faces.begin([third], (), Terms(consent=Consent("form 1", at)))


async def test_records_go_with_their_consent(records: RecordStore, set_clock: SetClock) -> None:
    collection, at = a_collection(), set_clock.at
    await records.collections.add(collection)
    face = replace(a_face(collection, 1), subject="anna")
    await enrolled(records, face, Terms(consent=Consent("form 1", at, expires_at=at + DAY)))
    await records.subjects.change(collection.id, "anna", {"display_name": "Anna"}, at=at)
    await records.faces.begin_forgetting([face.id])
    await records.faces.remove([face.id])
    # somebody wrote into it, so that it stays without a face, but not beyond the consent
    assert await records.subjects.get(collection.id, "anna", at=at) is not None
    assert await records.subjects.drop_over(at + DAY - 1) == 0
    assert await records.subjects.drop_over(at + DAY) == 1


async def test_what_was_begun_before_an_erasure_is_refused(
    records: RecordStore, set_clock: SetClock
) -> None:
    collection, other = a_collection(), a_collection()
    other = replace(other, id="c2" * 18, name="others")
    for each in (collection, other):
        await records.collections.add(each)
    before = set_clock.at
    set_clock.move(1)
    pending = replace(a_face(collection, 1), subject="anna")
    await enrolled(records, pending, Terms(begun_at=before), commit=False)
    stopped = await records.erasures.note(collection.id, subjects=["anna"], images=["9" * 64])
    assert stopped == {pending.id}
    assert not await records.faces.commit([pending.id])
    assert await records.erasures.forbids([pending], before)
    assert await records.erasures.left(stopped) == 1
    await records.faces.remove([pending.id])
    assert await records.erasures.left(stopped) == 0

    named = replace(a_face(collection, 2), subject="anna", image_sha256="2" * 64)
    shown = replace(a_face(collection, 3), subject="bert", image_sha256="9" * 64)
    for face in (named, shown):
        with pytest.raises(EnrolmentRefusedError):
            await records.faces.begin([face], (), Terms(begun_at=before))
    assert await records.subjects.get(collection.id, "bert", at=set_clock.at) is None
    # of another collection, or begun since
    elsewhere = replace(named, collection_id=other.id, id="e" * 36)
    await enrolled(records, elsewhere, Terms(begun_at=before))
    set_clock.move(1)
    await enrolled(records, named, Terms(begun_at=set_clock.at))
    await enrolled(records, shown, Terms())


async def test_notes_stay_as_long_as_jobs_need_them(
    records: RecordStore, set_clock: SetClock
) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    job = replace(a_job(operation="enrol"), collection_id=collection.id, collection="people")
    await records.jobs.create(job)
    set_clock.move(1)
    await records.erasures.note(collection.id, subjects=["anna"])
    face = replace(a_face(collection, 1), subject="anna")
    set_clock.move(KEPT_SECONDS + 1)
    assert await records.erasures.forget(set_clock.at) == 0
    assert await records.erasures.forbids([face], job.created_at)
    await records.jobs.discard(job.id)
    assert await records.erasures.forget(set_clock.at) == 1
    assert not await records.erasures.forbids([face], job.created_at)


async def test_an_erasure_waits_for_an_enrolment_that_has_read_the_notes(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    has_read, go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection: Any, faces: Any, terms: Any) -> list[FaceRecord]:
        admitted = await admit(connection, faces, terms)
        has_read.set()
        await go_on.wait()
        return admitted

    monkeypatch.setattr(faces_module, "admit", slow)
    face = replace(a_face(collection, 1), subject="anna")
    beginning = asyncio.create_task(records.faces.begin([face], (), Terms(begun_at=1.0)))
    await has_read.wait()
    noting = asyncio.create_task(records.erasures.note(collection.id, subjects=["anna"]))
    listing = asyncio.create_task(records.refusals.add(collection.id, [an_entry(1)]))
    # without a lock both end at once, and miss the face
    done, _ = await asyncio.wait({noting, listing}, timeout=0.3)
    assert not done
    go_on.set()
    assert (await beginning).faces
    assert await noting == {face.id}
    await listing
    assert not await records.faces.commit([face.id])


async def test_kept_answers_go_after_a_day(records: RecordStore, set_clock: SetClock) -> None:
    for key in ("old", "new"):
        claim = await records.idempotency.begin(tenant="default", key=key, fingerprint="f")
        assert isinstance(claim, Claim)
        await records.idempotency.finish(KeptAnswer(claim, 201, "{}", ("a",)))
        set_clock.move(IDEMPOTENCY_SECONDS / 2 + 1)
    assert await records.idempotency.naming("default", ["a", "b"]) != ()
    assert await records.idempotency.forget_old() == 1
    assert len(await records.idempotency.naming("default", ["a"])) == 1
    assert await records.idempotency.naming("initech", ["a"]) == ()


def an_entry(number: int, *, crop: bool = False) -> RefusedFace:
    return RefusedFace(
        id=f"entry-{number}",
        space="00000000000000a1",
        reason="asked",
        created_at=float(number),
        created_by="tester",
        vector=SealedBytes("key", b"nonce", b"numbers"),
        crop=SealedBytes("key", b"nonce", b"pixels") if crop else None,
    )


async def test_lists_of_faces_that_are_not_enrolled(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    entries = [an_entry(1), an_entry(2, crop=True)]
    await records.refusals.add(collection.id, entries)
    assert await records.refusals.all(collection.id) == (1, tuple(entries))
    assert await records.refusals.page(collection.id, limit=1) == (entries[0],)
    after = await records.refusals.page(collection.id, limit=9, after=(1.0, "entry-1"))
    assert after == (entries[1],)
    # faces that were compared with an older list are compared again
    face = a_face(collection, 1)
    assert (await records.faces.begin([face], (), Terms(refusals=0))).outdated
    assert (await records.faces.begin([face], (), Terms(refusals=1))).faces
    moved = replace(entries[1], space="00000000000000b2")
    await records.refusals.move(collection.id, [moved])
    assert await records.refusals.remove(collection.id, "entry-2") == moved
    with pytest.raises(NotFoundError):
        await records.refusals.remove(collection.id, "entry-2")
    with pytest.raises(NotFoundError):
        await records.refusals.remove("another", "entry-1")
    stored = await records.collections.get(collection.id)
    assert stored is not None
    assert stored.refusals == 3
    monkeypatch.setattr(refusals_module, "MOST_ENTRIES", 2)
    with pytest.raises(Exception, match="at most"):
        await records.refusals.add(collection.id, [an_entry(3), an_entry(4)])
    await records.collections.remove(collection.id)
    assert await records.refusals.all(collection.id) == (0, ())


async def test_results_of_jobs_about_a_person_are_removed(records: RecordStore) -> None:
    job = await submitted(records, 4)
    other = await submitted(records, 2, tenant="initech")
    for _ in range(2):
        for item in await claim(records, limit=2):
            outcome = badly() if item.index == 1 else well("a result")
            assert await records.job_queue.finish(item, outcome)
    images = {an_item("", index).sha256: 9e12 for index in (0, 1, 3)}
    trace = Trace("default", "c", images)
    ids = {(each.job.id, each.index) for each in await records.job_erasure.find(trace, subject_in)}
    assert ids == {(job.id, 0), (job.id, 1), (job.id, 3)}
    before = {
        index: result for index, result in enumerate(await records.jobs.results(job.id, limit=9))
    }
    erased = await records.job_erasure.erase(trace, subject_in, unfinished="none")
    results = await records.jobs.results(job.id, limit=9)
    gone = [result for result in results if result.code == "not_found"]
    assert all(result.result is None and result.name == f"image-{result.index}" for result in gone)
    ended = [index for index in (0, 1, 3) if before[index].sequence is not None]
    assert [result.index for result in gone] == ended
    assert erased.results == len(ended)
    assert results[2] == before[2]
    assert {key.partition("/")[0] for key in erased.objects} <= {job.id}
    untouched = await records.jobs.results(other.id, limit=9)
    assert [result.name for result in untouched] == ["0.jpg", "1.jpg"]
    now = await found(records, job)
    assert now.done + now.failed == sum(result.sequence is not None for result in results)
    assert now.failed == sum(result.status == "error" for result in results)


async def test_unfinished_images_of_a_person_end(records: RecordStore) -> None:
    job = await submitted(records, 3)
    (held,) = await claim(records, limit=1)
    images = {an_item("", index).sha256: 9e12 for index in (0, 1)}
    trace = Trace("default", "c", images)
    erased = await records.job_erasure.erase(trace, subject_in, unfinished="here")
    assert (erased.items, erased.results) == (0, 0)
    erased = await records.job_erasure.erase(trace, subject_in, unfinished="all")
    assert (erased.items, erased.results, len(erased.objects)) == (2, 0, 2)
    # whoever works on it cannot end it any more
    assert not await records.job_queue.finish(held, well("a result"))
    (last,) = await claim(records, limit=9)
    assert await records.job_queue.finish(last, well("a result"))
    now = await found(records, job)
    assert (now.state, now.done, now.failed) == ("done", 1, 2)


async def test_images_that_name_a_person_are_found(records: RecordStore) -> None:
    names = ["people/anna/1.jpg", "people/bert/1.jpg", "x/people/anna/2.jpg"]
    job = replace(
        a_job(operation="enrol"),
        collection_id="c",
        collection="people",
        options={"subject_from": "folder", "subject": None},
    )
    named = replace(job, id="1" * 36, options={"subject": "anna", "metadata": {"age": 36}})
    for each in (job, named):
        await records.jobs.create(each)
        items = [replace(an_item(each.id, n), name=name) for n, name in enumerate(names)]
        await records.jobs.add_items(each.id, items)
        await records.jobs.submit(each.id)
    trace = Trace("default", "c", {}, frozenset(["anna"]))
    found_ = await records.job_erasure.find(trace, subject_in)
    by_folder = [each.index for each in found_ if each.job.id == job.id]
    assert by_folder == [0, 2]
    assert len(found_) == 5
    await records.job_erasure.erase(trace, subject_in, unfinished="here")
    assert await records.job_erasure.find(trace, subject_in) == []
    results = await records.jobs.results(job.id, limit=9)
    assert [result.name for result in results] == ["image-0", "people/bert/1.jpg", "image-2"]
    assert dict((await found(records, named)).options)["subject"] is None
    assert "36" not in repr((await found(records, named)).options)

"""Answers under idempotency keys: claimed once, kept with the work they tell of."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import ConflictError, StorageUnavailableError
from gateway.records.idempotency import IdempotencyRecords
from gateway.records.store import RecordStore
from gateway.records.types import KeptAnswer
from tests.support.face_records import a_collection, a_face, enrolled
from tests.support.job_records import a_job, an_item, found

CLAIM = {"tenant": "default", "key": "k", "fingerprint": "f"}


def an_answer(body: str = "{}", **changes: Any) -> KeptAnswer:
    return replace(KeptAnswer(**CLAIM, status=201, body=body), **changes)


async def test_an_idempotency_key_is_claimed_once(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = CLAIM
    claims = await asyncio.gather(*(records.idempotency.begin(**claim) for _ in range(8)))
    assert sum(claimed is None for claimed in claims) == 1
    await records.idempotency.finish(an_answer('{"faces": []}'))
    await records.idempotency.give_back(tenant="default", key="k", even_if_kept=False)
    again = await records.idempotency.begin(**claim)
    assert again is not None
    assert (again.status, again.body) == (201, '{"faces": []}')
    assert await records.idempotency.begin(**{**claim, "tenant": "other"}) is None
    tomorrow = time.time() + 86_401
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    assert await records.idempotency.begin(**claim) is None
    await records.idempotency.give_back(tenant="default", key="k", even_if_kept=False)
    assert await records.idempotency.begin(**claim) is None
    await records.idempotency.give_back_unfinished()
    # another gateway may be answering the request, but for a database of one process
    alone = records.idempotency._database.has_one_writer
    assert (await records.idempotency.begin(**claim) is None) == alone
    later = tomorrow + 901
    monkeypatch.setattr(time, "time", lambda: later)
    await records.idempotency.give_back_unfinished()
    assert await records.idempotency.begin(**claim) is None


async def _fail_to_give_back(records: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away() -> None:
        raise StorageUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(records.idempotency._database, "write", is_away)
        with pytest.raises(StorageUnavailableError):
            await records.idempotency.give_back(tenant="default", key="k", even_if_kept=True)


async def test_a_key_is_given_back_once_the_database_is_there_again(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await records.idempotency.begin(**CLAIM) is None
    await _fail_to_give_back(records, monkeypatch)
    assert await records.idempotency.begin(**CLAIM) is None
    assert await records.idempotency.begin(**CLAIM) is not None


async def test_a_late_return_leaves_the_claim_of_another_gateway(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = IdempotencyRecords(records.idempotency._database)
    assert await records.idempotency.begin(**CLAIM) is None
    await _fail_to_give_back(records, monkeypatch)
    await other.give_back(tenant="default", key="k", even_if_kept=False)
    later = time.time() + 5
    monkeypatch.setattr(time, "time", lambda: later)
    assert await other.begin(**CLAIM) is None
    assert await records.idempotency.begin(**{**CLAIM, "key": "another"}) is None
    assert await other.begin(**CLAIM) is not None


async def test_a_stored_answer_is_removed_with_the_first_face_that_it_names(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, faces = await enrolled(records, 3)
    for key, named in (("both", faces[:2]), ("other", faces[2:])):
        await records.idempotency.begin(tenant="default", key=key, fingerprint="f")
        ids = [each.id for each in named]
        named_twice = (*ids, ids[0])
        await records.idempotency.finish(
            an_answer(" ".join(ids), key=key, status=201, face_ids=named_twice)
        )
    await records.faces.remove([faces[1].id])
    gone = await records.idempotency.begin(tenant="default", key="both", fingerprint="f")
    assert gone is not None
    assert (gone.status, gone.body) == (201, None)
    kept = await records.idempotency.begin(tenant="default", key="other", fingerprint="f")
    assert kept is not None
    assert kept.body == faces[2].id
    # a day later the keys are free, whatever their answers named
    tomorrow = time.time() + 86_401
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    for key in ("both", "other"):
        assert await records.idempotency.begin(tenant="default", key=key, fingerprint="f") is None


async def test_an_answer_is_kept_with_the_job_that_it_tells_of(records: RecordStore) -> None:
    await records.idempotency.begin(**CLAIM)
    job = a_job()
    await records.jobs.create(job)
    await records.jobs.add_items(job.id, [an_item(job.id, 0)])
    await records.jobs.submit(job.id, kept=lambda new: an_answer(f"{new.id} {new.state}"))
    # the request learned nothing of it
    await records.idempotency.give_back(tenant="default", key="k", even_if_kept=False)
    again = await records.idempotency.begin(**CLAIM)
    assert again is not None
    assert (again.status, again.body) == (201, f"{job.id} queued")


async def test_an_answer_is_kept_with_the_faces_that_it_names(records: RecordStore) -> None:
    await records.idempotency.begin(**CLAIM)
    collection = a_collection()
    await records.collections.add(collection)
    face, gone = a_face(collection, 0), a_face(collection, 1)
    await records.faces.begin([face, gone])
    await records.faces.remove([gone.id])
    kept = an_answer(face_ids=(face.id,))
    assert not await records.faces.commit([face.id, gone.id], kept=kept)
    running = await records.idempotency.begin(**CLAIM)
    assert running is not None
    assert running.status is None, "nothing was enrolled: there is no answer"
    assert await records.faces.commit([face.id], kept=kept)
    again = await records.idempotency.begin(**CLAIM)
    assert again is not None
    assert (again.status, again.body) == (201, "{}")
    # the enrolment is undone all the same: so is the answer
    await records.faces.remove([face.id])
    await records.idempotency.give_back(tenant="default", key="k", even_if_kept=True)
    assert await records.idempotency.begin(**CLAIM) is None


async def test_without_its_key_a_late_request_does_nothing(records: RecordStore) -> None:
    await records.idempotency.begin(**CLAIM)
    job = a_job()
    await records.jobs.create(job)
    await records.jobs.add_items(job.id, [an_item(job.id, 0)])
    await records.idempotency.give_back(tenant="default", key="k", even_if_kept=True)
    with pytest.raises(ConflictError, match="released"):
        await records.jobs.submit(job.id, kept=lambda _: an_answer())
    assert (await found(records, job)).state == "receiving"
    # another request has the key meanwhile, and has been answered
    await records.idempotency.begin(**CLAIM)
    await records.idempotency.finish(an_answer("of the other"))
    with pytest.raises(ConflictError, match="released"):
        await records.jobs.submit(job.id, kept=lambda _: an_answer())
    other = await records.idempotency.begin(**CLAIM)
    assert other is not None
    assert other.body == "of the other"

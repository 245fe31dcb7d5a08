"""Answers under idempotency keys: claimed once, kept with the work they tell of."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, update

from gateway.concurrency import BackgroundTasks
from gateway.errors import ConflictError, StorageUnavailableError
from gateway.records.store import RecordStore
from gateway.records.tables import IDEMPOTENCY, PROCESSES
from gateway.records.types import Answered, Claim, KeptAnswer
from tests.support.face_records import a_collection, a_face, enrolled
from tests.support.job_records import a_job, an_item, found

ASKED = {"tenant": "default", "key": "k", "fingerprint": "f"}


@pytest.fixture(autouse=True)
async def lasting(records: RecordStore) -> AsyncIterator[None]:
    """The process lives, as while it answers a request."""
    async with records.presence.lasting():
        yield


async def claimed(records: RecordStore, **changes: str) -> Claim:
    """Take a key that is free."""
    claim = await records.idempotency.begin(**(ASKED | changes))
    assert isinstance(claim, Claim)
    return claim


async def answered(records: RecordStore, **changes: str) -> Answered:
    """Ask for a key that is taken."""
    found = await records.idempotency.begin(**(ASKED | changes))
    assert isinstance(found, Answered)
    return found


def an_answer(claim: Claim, body: str = "{}", **changes: Any) -> KeptAnswer:
    return replace(KeptAnswer(claim, status=201, body=body), **changes)


def another_process(records: RecordStore, *, lease_seconds: float = 60.0) -> RecordStore:
    """The records of another gateway on the same database."""
    other = RecordStore(records._database)
    other.presence.lease_seconds = lease_seconds
    return other


async def test_an_idempotency_key_is_claimed_once(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = await asyncio.gather(*(records.idempotency.begin(**ASKED) for _ in range(8)))
    (claim,) = [each for each in claims if isinstance(each, Claim)]
    await records.idempotency.finish(an_answer(claim, '{"faces": []}'))
    await records.idempotency.give_back(claim)
    again = await answered(records)
    assert (again.status, again.body) == (201, '{"faces": []}')
    await claimed(records, tenant="other")
    tomorrow = time.time() + 86_401
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    await records.idempotency.give_back(await claimed(records))
    await claimed(records)
    await records.idempotency.give_back_unfinished()
    # another gateway may be answering the request, but for a database of one process
    alone = records.idempotency._database.has_one_writer
    assert isinstance(await records.idempotency.begin(**ASKED), Claim) == alone
    later = tomorrow + 901
    monkeypatch.setattr(time, "time", lambda: later)
    await records.idempotency.give_back_unfinished()
    await claimed(records)


async def _fail_to_give_back(
    records: RecordStore, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_away() -> None:
        raise StorageUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(records.idempotency._database, "write", is_away)
        with pytest.raises(StorageUnavailableError):
            await records.idempotency.give_back(claim)


async def test_a_key_is_given_back_once_the_database_is_there_again(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _fail_to_give_back(records, await claimed(records), monkeypatch)
    await claimed(records)
    await answered(records)


async def test_a_key_whose_insertion_was_not_confirmed_is_free_again(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = records.idempotency._database
    write = database.write

    @asynccontextmanager
    async def unconfirmed() -> AsyncIterator[Any]:
        async with write() as connection:
            yield connection
        raise StorageUnavailableError("cut off after the commit")

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", unconfirmed)
        with pytest.raises(StorageUnavailableError):
            await claimed(records)
    await claimed(records)


async def test_a_late_return_leaves_the_claim_of_another_gateway(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, other = await claimed(records), another_process(records)
    await _fail_to_give_back(records, claim, monkeypatch)
    async with other.presence.lasting():
        await other.idempotency.give_back(claim)
        await claimed(other)
        await claimed(records, key="another")
        await answered(other)


# Processes that are gone ----------------------------------------------------------------------


async def test_a_key_is_taken_over_once_its_process_is_gone(records: RecordStore) -> None:
    gone = another_process(records)
    async with gone.presence.lasting():
        lost = await claimed(gone)
    assert (await answered(records)).status is None, "the lease runs"
    async with records._database.write() as connection:
        its = PROCESSES.c.id == gone.presence.id
        await connection.execute(update(PROCESSES).where(its).values(lease_until=0.0))
    assert (await answered(records, fingerprint="other")).fingerprint == "f"
    claims = await asyncio.gather(*(records.idempotency.begin(**ASKED) for _ in range(4)))
    (claim,) = [each for each in claims if isinstance(each, Claim)]
    # the other one was only paused
    async with gone.presence.lasting():
        with pytest.raises(ConflictError, match="released") as refused:
            await gone.idempotency.finish(an_answer(lost, "too late"))
        assert refused.value.retry_after_seconds == 1
        await gone.idempotency.give_back(lost)
        assert (await answered(gone)).status is None
        await records.idempotency.finish(an_answer(claim, "in time"))
        await gone.idempotency.give_back(lost)
        assert (await answered(gone)).body == "in time"


async def test_of_several_processes_one_takes_a_key_over(records: RecordStore) -> None:
    gone = another_process(records)
    async with gone.presence.lasting():
        await claimed(gone)
    await gone.presence.leave()
    takers = [another_process(records) for _ in range(6)]

    async def take(taker: RecordStore) -> Claim | Answered:
        async with taker.presence.lasting():
            return await taker.idempotency.begin(**ASKED)

    taken = await asyncio.gather(*map(take, takers))
    assert sum(isinstance(each, Claim) for each in taken) == 1


async def test_a_key_that_was_just_taken_over_is_not_taken_over_again(records: RecordStore) -> None:
    gone, faster, slower = (another_process(records) for _ in range(3))
    await claimed(gone)
    late = Claim("default", "k", "late")
    found = await slower.idempotency._look(late)
    assert found is not None
    assert found[1] is not None
    # its lease began after the other one looked, and is not seen
    claim = await claimed(faster)
    assert not await slower.idempotency._take_over(late, found[1])
    await faster.idempotency.finish(an_answer(claim))


async def test_a_lease_is_renewed_while_it_is_needed(records: RecordStore) -> None:
    slow, background = another_process(records, lease_seconds=1.5), BackgroundTasks()
    async with background, background.running("presence", slow.presence.keep_up):
        async with slow.presence.lasting():
            claim = await claimed(slow)
            await asyncio.sleep(2.0)
            assert (await answered(records)).status is None
            await slow.idempotency.finish(an_answer(claim, "slow"))
            assert (await answered(records)).body == "slow"
            await claimed(slow, key="left")
        # nothing that needs the lease is left
        await asyncio.sleep(1.6)
        await claimed(records, key="left")


async def test_a_key_of_a_release_without_leases_is_not_taken_over(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {**ASKED, "created_at": time.time()}
    async with records._database.write() as connection:
        await connection.execute(insert(IDEMPOTENCY).values(row))
    assert (await answered(records)).status is None
    later = time.time() + 901
    monkeypatch.setattr(time, "time", lambda: later)
    await claimed(records)


async def test_processes_that_are_gone_are_forgotten(records: RecordStore) -> None:
    gone = another_process(records, lease_seconds=-86_500)
    async with gone.presence.lasting():
        pass
    assert await records.presence.forget_gone() == 1
    await claimed(records)
    await answered(another_process(records))


# With the work ----------------------------------------------------------------------------------


async def test_a_stored_answer_is_removed_with_the_first_face_that_it_names(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, faces = await enrolled(records, 3)
    for key, named in (("both", faces[:2]), ("other", faces[2:])):
        ids = [each.id for each in named]
        named_twice = (*ids, ids[0])
        claim = await claimed(records, key=key)
        await records.idempotency.finish(an_answer(claim, " ".join(ids), face_ids=named_twice))
    await records.faces.remove([faces[1].id])
    gone = await answered(records, key="both")
    assert (gone.status, gone.body) == (201, None)
    assert (await answered(records, key="other")).body == faces[2].id
    # a day later the keys are free, whatever their answers named
    tomorrow = time.time() + 86_401
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    for key in ("both", "other"):
        await claimed(records, key=key)


async def test_an_answer_is_kept_with_the_job_that_it_tells_of(records: RecordStore) -> None:
    claim = await claimed(records)
    job = a_job()
    await records.jobs.create(job)
    await records.jobs.add_items(job.id, [an_item(job.id, 0)])
    await records.jobs.submit(job.id, kept=lambda new: an_answer(claim, f"{new.id} {new.state}"))
    # the request learned nothing of it
    await records.idempotency.give_back(claim)
    again = await answered(records)
    assert (again.status, again.body) == (201, f"{job.id} queued")


async def test_an_answer_is_kept_with_the_faces_that_it_names(records: RecordStore) -> None:
    claim = await claimed(records)
    collection = a_collection()
    await records.collections.add(collection)
    face, gone = a_face(collection, 0), a_face(collection, 1)
    await records.faces.begin([face, gone])
    await records.faces.remove([gone.id])
    kept = an_answer(claim, face_ids=(face.id,))
    assert not await records.faces.commit([face.id, gone.id], kept=kept)
    assert (await answered(records)).status is None, "nothing was enrolled: there is no answer"
    assert await records.faces.commit([face.id], kept=kept)
    again = await answered(records)
    assert (again.status, again.body) == (201, "{}")


async def test_without_its_key_a_late_request_does_nothing(records: RecordStore) -> None:
    claim = await claimed(records)
    job, collection = a_job(), a_collection()
    face = a_face(collection, 0)
    await records.jobs.create(job)
    await records.jobs.add_items(job.id, [an_item(job.id, 0)])
    await records.collections.add(collection)
    await records.faces.begin([face])
    await records.idempotency.give_back(claim)

    async def nothing_is_done() -> None:
        with pytest.raises(ConflictError, match="released"):
            await records.jobs.submit(job.id, kept=lambda _: an_answer(claim))
        assert (await found(records, job)).state == "receiving"
        with pytest.raises(ConflictError, match="released"):
            await records.faces.commit([face.id], kept=an_answer(claim))
        assert await records.faces.get(collection.id, [face.id]) == ()

    await nothing_is_done()
    # another request with the same content has the key meanwhile
    others = await claimed(records)
    await nothing_is_done()
    await records.idempotency.finish(an_answer(others, "of the other"))
    await nothing_is_done()
    assert (await answered(records)).body == "of the other"

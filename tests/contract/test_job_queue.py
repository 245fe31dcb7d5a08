"""Contract of the queue of images: leases, whose turn it is, lost workers, webhooks."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.records import job_queue
from gateway.records.job_queue import ResultRefusedError
from gateway.records.job_types import JobRecord, LeasedItem
from gateway.records.store import RecordStore
from tests.support.job_records import (
    LEASE_SECONDS,
    a_worker,
    badly,
    claim,
    found,
    submitted,
    well,
)
from tests.support.records import SetClock


def indexes(items: Sequence[LeasedItem]) -> list[int]:
    return [item.index for item in items]


# Leases ----------------------------------------------------------------------------------------


async def test_only_the_holder_of_the_current_lease_ends_an_image(
    records: RecordStore, set_clock: SetClock
) -> None:
    queue = records.job_queue
    job = await submitted(records, 2)
    mine = await claim(records, "a")
    assert indexes(mine) == [0, 1]
    assert await claim(records, "b") == (), "leased"
    set_clock.move(LEASE_SECONDS - 1)
    assert await queue.renew("b", mine, LEASE_SECONDS) == set(), "of another worker"
    assert await queue.renew("a", mine[:1], LEASE_SECONDS) == {mine[0].key}
    set_clock.move(1)
    (theirs,) = await claim(records, "b")
    assert (theirs.index, theirs.lease, theirs.attempts, theirs.lost) == (1, 2, 2, 1)
    assert await queue.renew("a", mine, LEASE_SECONDS) == {mine[0].key}
    assert not await queue.finish(mine[1], badly())
    assert not await queue.retry_later(mine[1], delay_seconds=0, code="x", detail="y")
    assert await queue.release([mine[1]]) == 0
    assert (await found(records, job)).open == 2
    assert await queue.finish(theirs, well("theirs"))
    assert not await queue.finish(theirs, badly()), "once"
    assert await queue.renew("b", [theirs], LEASE_SECONDS) == set()
    # a lease that is over and that nobody took is still the current one
    set_clock.move(2 * LEASE_SECONDS)
    assert await queue.renew("a", mine, LEASE_SECONDS) == {mine[0].key}
    set_clock.move(2 * LEASE_SECONDS)
    assert await queue.finish(mine[0], badly())
    over = await found(records, job)
    assert (over.state, over.done, over.failed, over.sequence) == ("done", 1, 1, 2)
    results = await records.jobs.results(job.id, limit=9)
    assert [(r.status, r.attempts) for r in results] == [("error", 1), ("ok", 2)]
    assert await queue.renew("a", (), LEASE_SECONDS) == set()
    assert await queue.release(()) == 0


async def test_a_result_that_cannot_be_stored_takes_no_other_along(records: RecordStore) -> None:
    job = await submitted(records, 20)
    items = await claim(records, limit=20)
    # half of a character, which neither database takes as text
    refused = replace(badly(), code="\ud800")
    told = await asyncio.gather(
        *(
            records.job_queue.finish(item, refused if item.index == 7 else well())
            for item in [*items, items[3]]
        ),
        return_exceptions=True,
    )
    assert [type(each) for each in told[:20]] == [*[bool] * 7, ResultRefusedError, *[bool] * 12]
    assert told[:7] == [True] * 7
    assert told[20] is False, "ended before"
    over = await found(records, job)
    assert (over.state, over.done, over.failed, over.sequence) == ("done", 19, 1, 20)
    (failed,) = await records.jobs.results(job.id, limit=9, status="error")
    assert (failed.index, failed.code, failed.detail) == (
        7,
        "internal",
        "the result could not be stored",
    )


async def test_ends_that_come_together_are_written_together(records: RecordStore) -> None:
    jobs = [await submitted(records, 30), await submitted(records, 30)]
    items = [*await claim(records, limit=30), *await claim(records, limit=30)]
    writes: list[str] = []
    records.observe(lambda operation, seconds, worked: writes.append(operation))
    twice = [*items, *items[:3]]
    told = await asyncio.gather(*(records.job_queue.finish(item, well()) for item in twice))
    assert told == [True] * 60 + [False] * 3
    assert writes == ["write"]
    for job in jobs:
        assert (await found(records, job)).state == "done"
        events = await records.jobs.events(job.id, limit=99)
        assert [event.sequence for event in events] == list(range(1, 31))


async def test_ends_leave_the_file_to_others_in_between(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submitted(records, 3)
    queue, items = records.job_queue, await claim(records)
    monkeypatch.setattr(job_queue, "_LONGEST_REST_SECONDS", 9e9)
    assert await queue.finish(items[0], well())
    if not records._database.has_one_writer:
        assert queue._rests_until == 0.0
        return
    assert queue._rests_until > 0.0
    writes: list[str] = []
    records.observe(lambda operation, seconds, worked: writes.append(operation))
    queue._rests_until = time.monotonic() + 0.5
    first = asyncio.ensure_future(queue.finish(items[1], well()))
    await asyncio.sleep(0.1)
    assert writes == [], "no rest"
    assert await queue.finish(items[2], well())
    assert await first
    assert writes == ["write"], "not together"


async def test_a_caller_that_gives_up_takes_no_other_end_along(records: RecordStore) -> None:
    await submitted(records, 4)
    items = await claim(records)
    ends = [asyncio.ensure_future(records.job_queue.finish(item, well())) for item in items]
    await asyncio.sleep(0)
    ends[0].cancel()
    told = await asyncio.gather(*ends, return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError)
    assert told[1:] == [True] * 3


async def test_images_are_repeated_after_a_delay(records: RecordStore, set_clock: SetClock) -> None:
    queue = records.job_queue
    job = await submitted(records, 12)
    items = await claim(records, limit=3)
    for item, delay in zip(items, (20, 10, 15), strict=True):
        given = await queue.retry_later(item, delay_seconds=delay, code="timeout", detail="slow")
        assert given
    assert not await queue.finish(items[0], well()), "given back"
    (waiting, *_) = await records.jobs.results(job.id, limit=1)
    assert (waiting.status, waiting.code, waiting.detail) == ("queued", "timeout", "slow")
    assert indexes(await claim(records, limit=2)) == [3, 4]
    set_clock.move(15)
    again = await claim(records, limit=3)
    assert indexes(again) == [1, 2, 5], "what was claimed before comes first"
    assert [item.attempts for item in again] == [2, 2, 1]
    assert await queue.finish(again[0], well())
    assert (await records.jobs.results(job.id, limit=9, status="ok"))[0].code is None
    # given back without work: not an attempt, and at once
    assert await queue.release(again) == 2
    assert [(i.index, i.attempts) for i in await claim(records, limit=2)] == [(2, 2), (5, 1)]


async def test_images_whose_workers_end_come_alone_and_end_at_last(
    records: RecordStore, set_clock: SetClock
) -> None:
    queue = records.job_queue
    job = await submitted(records, 12)
    assert len(await claim(records, "a", limit=3)) == 3
    for_others = await claim(records, "b", limit=3)
    assert await queue.release_worker("a") == 3
    assert await queue.release_worker("unknown") == 0
    assert await queue.renew("b", for_others, LEASE_SECONDS) == {i.key for i in for_others}
    # lost once: alone, but several at a time
    singles = [await claim(records, "a") for _ in range(3)]
    assert [indexes(single) for single in singles] == [[0], [1], [2]]
    assert [single[0].lost for single in singles] == [1, 1, 1]
    assert await queue.finish(singles[0][0], well())
    assert await queue.release_worker("a") == 2
    # lost twice: one at a time; the others are not kept waiting
    (suspect,) = await claim(records, "a")
    assert (suspect.index, suspect.attempts, suspect.lost) == (1, 3, 2)
    fresh = await claim(records, "a", limit=2)
    assert indexes(fresh) == [6, 7]
    # an error with which its worker lived: nothing to suspect any more
    await queue.retry_later(suspect, delay_seconds=1, code="timeout", detail="slow")
    (other,) = await claim(records, "a")
    assert (other.index, other.attempts, other.lost) == (2, 3, 2)
    set_clock.move(1)
    assert indexes(await claim(records, "a", limit=2)) == [1, 8]
    # released while it is suspected: still alone
    await queue.release([other])
    (other,) = await claim(records, "a")
    assert (other.index, other.attempts, other.lost) == (2, 3, 2)
    for attempts in (4, 5):
        set_clock.move(LEASE_SECONDS)
        await queue.renew("a", [*fresh, *for_others], 9e9)
        claimed = {}
        while items := await claim(records, "c"):
            claimed.update({item.index: item for item in items})
            await asyncio.gather(*(queue.finish(item, well()) for item in items if item.index != 2))
        assert claimed[2].attempts == attempts
    assert (await found(records, job)).failed == 0
    set_clock.move(LEASE_SECONDS)
    assert await claim(records, "c") == ()
    (lost,) = await records.jobs.results(job.id, limit=9, status="error")
    assert (lost.index, lost.code, lost.attempts) == (2, "internal", 5)
    assert lost.detail == "the worker ended 5 times while it worked on this image"
    # its object is kept: it can be repeated
    assert (await records.jobs.retry_failed(job.tenant, job.id)).failed == 0
    (again,) = await claim(records)
    assert (again.index, again.attempts, again.lost) == (2, 1, 0)


async def test_a_job_can_end_with_a_lost_image(records: RecordStore, set_clock: SetClock) -> None:
    job = await submitted(records, 1, webhook="https://there")
    set_clock.move(1)
    other = await submitted(records, 1)
    assert len(await claim(records, max_attempts=1)) == 1
    set_clock.move(LEASE_SECONDS)
    (item,) = await claim(records, max_attempts=1)
    assert item.job.id == other.id
    assert await claim(records, max_attempts=1) == ()
    over = await found(records, job)
    assert (over.state, over.failed, over.webhook_state) == ("done", 1, "due")
    (lost,) = await records.jobs.events(job.id, limit=9)
    assert lost.detail == "the worker ended once while it worked on this image"


# Whose turn it is ------------------------------------------------------------------------------


async def served(records: RecordStore, number: int, *, limit: int = 8) -> list[JobRecord]:
    """The jobs that the next claims serve; each image ends at once."""
    jobs = []
    for _ in range(number):
        items = await claim(records, limit=limit)
        if items:
            jobs.append(items[0].job)
            await asyncio.gather(*(records.job_queue.finish(item, well()) for item in items))
    return jobs


async def test_a_small_job_waits_for_two_slices_of_a_large_one(records: RecordStore) -> None:
    large = await submitted(records, 1000, "large")
    assert {job.id for job in await served(records, 3)} == {large.id}
    small = await submitted(records, 10, "small")
    order = [job.tenant for job in await served(records, 4)]
    assert order == ["small", "large", "small", "large"]
    assert (await found(records, small)).state == "done"
    # with lanes that hold a slice each while others claim
    small = await submitted(records, 10, "small")
    held = [await claim(records, f"lane {number}") for number in range(4)]
    assert Counter(items[0].job.tenant for items in held) == {"small": 2, "large": 2}


async def test_tenants_and_their_jobs_take_turns(records: RecordStore) -> None:
    for tenant in ("a", "b", "c"):
        for _ in range({"a": 3, "b": 1, "c": 2}[tenant]):
            await submitted(records, 100, tenant)
    jobs = await served(records, 18, limit=2)
    assert [job.tenant for job in jobs] == ["a", "b", "c"] * 6
    by_job = Counter((job.tenant, job.id) for job in jobs)
    assert sorted(by_job.values()) == [2, 2, 2, 3, 3, 6]


async def test_who_was_idle_neither_starves_nor_is_starved(records: RecordStore) -> None:
    await submitted(records, 200, "busy")
    await submitted(records, 4, "early")
    # the one has had dozens of turns, the other is idle after two
    await served(records, 50, limit=2)
    await submitted(records, 100, "early")
    await submitted(records, 100, "new")
    jobs = await served(records, 12, limit=2)
    assert Counter(job.tenant for job in jobs) == {"busy": 4, "early": 4, "new": 4}
    assert {job.tenant for job in jobs[:3]} == {"busy", "early", "new"}
    # many small jobs are no way around
    for _ in range(6):
        await submitted(records, 1, "new")
    jobs = await served(records, 12, limit=2)
    assert Counter(job.tenant for job in jobs) == {"busy": 4, "early": 4, "new": 4}


async def test_a_worker_gets_only_what_it_can_do(records: RecordStore) -> None:
    enrol = await submitted(records, 3, "a", operation="enrol")
    score = await submitted(records, 3, "b")
    assert await claim(records, operation="embed") == ()
    (item, *_) = await claim(records, operation="enrol")
    assert (item.job.id, item.job.operation) == (enrol.id, "enrol")
    assert (await claim(records))[0].job.id == score.id


async def test_claims_of_many_at_once_give_each_image_to_one(
    records: RecordStore, migrated_url: str
) -> None:
    jobs = [await submitted(records, 25, tenant) for tenant in ("a", "a", "b")]
    other = await RecordStore.open(migrated_url)
    try:
        claims = await asyncio.gather(
            *(claim(store, f"w{number}") for number in range(8) for store in (records, other))
        )
    finally:
        await other.close()
    keys = [item.key for items in claims for item in items]
    assert len(keys) == len(set(keys)) == 75
    # the turn of each is one: no tenant has had more than its share before the other was done
    assert Counter(items[0].job.tenant for items in claims if items) == {"a": 8, "b": 4}
    assert {key[0] for key in keys} == {job.id for job in jobs}


# Workers and webhooks --------------------------------------------------------------------------


async def test_workers_are_seen(records: RecordStore, set_clock: SetClock) -> None:
    queue = records.job_queue
    first = a_worker("b")
    await queue.beat(first)
    set_clock.move(20)
    second = a_worker("a", seconds=2.5)
    await queue.beat(second)
    assert await queue.workers(30) == (second, first)
    assert await queue.workers(10) == (second,)
    later = replace(first, seen_at=set_clock.at, counters={"ok": 7.0})
    await queue.beat(later)
    assert await queue.workers(10) == (second, later)
    await queue.leave("a")
    assert await queue.workers(10) == (later,)
    set_clock.move(90_000)
    await queue.beat(a_worker("c"))
    assert [worker.name for worker in await queue.workers(1e6)] == ["c"]


async def test_webhooks_are_delivered_by_one(records: RecordStore, set_clock: SetClock) -> None:
    queue = records.job_queue
    job = await submitted(records, 1, webhook="https://there")
    assert await queue.claim_webhook() is None
    (item,) = await claim(records)
    await queue.finish(item, well())
    claimed = await queue.claim_webhook(lease_seconds=60)
    assert claimed is not None
    assert (claimed.id, claimed.webhook_url, claimed.state) == (job.id, "https://there", "done")
    assert claimed.webhook_attempts == 1
    assert await queue.claim_webhook() is None
    set_clock.move(60)
    again = await queue.claim_webhook()
    assert again is not None
    assert again.webhook_attempts == 2
    assert not await queue.webhook_sent(claimed), "another attempt was begun since"
    assert not await queue.webhook_failed(claimed, retry_at=None)
    assert await queue.webhook_failed(again, retry_at=set_clock.at + 100)
    assert await queue.claim_webhook() is None
    set_clock.move(100)
    third = await queue.claim_webhook()
    assert third is not None
    assert await queue.webhook_sent(third)
    assert not await queue.webhook_failed(third, retry_at=1.0)
    set_clock.move(1e6)
    assert await queue.claim_webhook() is None
    over = await found(records, job)
    assert (over.webhook_state, over.webhook_attempts) == ("sent", 3)


@pytest.mark.parametrize("number", [1, 4])
async def test_a_webhook_can_be_given_up(records: RecordStore, number: int) -> None:
    job = await submitted(records, 0, webhook="https://there")
    claims = await asyncio.gather(*(records.job_queue.claim_webhook() for _ in range(number)))
    (claimed,) = [each for each in claims if each is not None]
    assert await records.job_queue.webhook_failed(claimed, retry_at=None)
    over = await found(records, job)
    assert (over.webhook_state, over.webhook_at) == ("failed", None)

import asyncio
import threading

import pytest

from gateway.deadline import Deadline, Slots, Workers
from gateway.errors import InferenceUnavailableError, RequestTimeoutError


def test_a_deadline_in_the_future_leaves_time():
    deadline = Deadline.after(100)
    assert 99 < deadline.remaining_seconds() <= 100
    assert deadline.allows(99)
    assert not deadline.allows(101)


def test_a_deadline_that_passed_is_an_error():
    with pytest.raises(RequestTimeoutError):
        Deadline.after(0).remaining_seconds()


def test_slots_refuse_one_more_and_are_given_back():
    slots = Slots(2)
    with slots.take(), slots.take():
        assert slots.taken == 2
        with pytest.raises(InferenceUnavailableError) as refusal, slots.take():
            pytest.fail("a third slot")
        assert refusal.value.retry_after_seconds == 1
    assert slots.taken == 0


def test_a_slot_is_given_back_when_its_holder_fails():
    slots = Slots(1)
    with pytest.raises(ValueError, match="broken"), slots.take():
        raise ValueError("broken")
    assert slots.taken == 0


async def test_workers_run_beside_the_event_loop():
    workers = Workers(1)
    name = await workers.run(lambda: threading.current_thread().name, deadline=Deadline.after(5))
    workers.close()
    assert name.startswith("aurum-cpu")


async def test_a_queue_before_the_workers_ends_with_the_deadline():
    workers, release = Workers(1), threading.Event()
    busy = asyncio.ensure_future(workers.run(release.wait, deadline=Deadline.after(60)))
    await asyncio.sleep(0)  # lets it take the only thread
    try:
        with pytest.raises(RequestTimeoutError):
            await workers.run(int, deadline=Deadline.after(0.05))
    finally:
        release.set()
        await busy
        workers.close()

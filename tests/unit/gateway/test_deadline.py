import asyncio
import gc
import threading
import weakref
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from gateway import deadline as module
from gateway.concurrency import AdmissionControl, BackgroundTasks, CpuPool
from gateway.deadline import Deadline, extend_current, forget_current, seconds_allowed
from gateway.errors import InferenceUnavailableError, RequestTimeoutError


def test_a_deadline_in_the_future_leaves_time():
    deadline = Deadline.after(100)
    assert 99 < deadline.remaining_seconds() <= 100
    assert deadline.allows(99)
    assert not deadline.allows(101)


def test_a_deadline_that_passed_is_an_error():
    with pytest.raises(RequestTimeoutError):
        Deadline.after(0).remaining_seconds()


def test_slots_refuse_one_more_and_are_released():
    admission = AdmissionControl(2)
    with admission.take(), admission.take():
        assert admission.taken == 2
        with pytest.raises(InferenceUnavailableError) as refusal, admission.take():
            pytest.fail("a third slot")
        assert refusal.value.retry_after_seconds == 1
    assert admission.taken == 0


def test_a_slot_is_released_when_its_holder_fails():
    admission = AdmissionControl(1)
    with pytest.raises(ValueError, match="broken"), admission.take():
        raise ValueError("broken")
    assert admission.taken == 0


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def serve(admission: AdmissionControl, clock: Clock, *, times: int, seconds: float) -> None:
    """Admit `times` requests one after the other, each for `seconds`."""
    for _ in range(times):
        with admission.take():
            clock.now += seconds


def test_a_request_that_would_wait_too_long_is_refused_with_retry_after():
    clock = Clock()
    admission = AdmissionControl(100, max_wait_seconds=1.0, clock=clock)
    serve(admission, clock, times=200, seconds=0.3)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(admission.take())
        assert admission.expected_wait_seconds == pytest.approx(1.2)
        with pytest.raises(InferenceUnavailableError) as refusal, admission.take():
            pytest.fail("the wait is too long")
        assert refusal.value.retry_after_seconds == 2
        assert admission.taken == 4


def test_one_request_is_admitted_however_slow_answers_are():
    clock = Clock()
    admission = AdmissionControl(100, max_wait_seconds=0.01, clock=clock)
    serve(admission, clock, times=50, seconds=5.0)
    assert admission.taken == 0


def test_idle_time_does_not_count_as_slowness():
    clock = Clock()
    admission = AdmissionControl(100, max_wait_seconds=1.0, clock=clock)
    for _ in range(50):
        serve(admission, clock, times=1, seconds=0.1)
        clock.now += 60
    with ExitStack() as held:
        for _ in range(10):
            held.enter_context(admission.take())
        assert admission.expected_wait_seconds == pytest.approx(1.0)


def test_faster_answers_admit_more_requests():
    clock = Clock()
    admission = AdmissionControl(100, max_wait_seconds=1.0, clock=clock)
    serve(admission, clock, times=100, seconds=2.0)
    serve(admission, clock, times=200, seconds=0.05)
    with ExitStack() as held:
        for _ in range(15):
            held.enter_context(admission.take())


def test_the_first_answer_alone_does_not_say_how_fast_an_engine_is():
    clock = Clock()
    admission = AdmissionControl(100, max_wait_seconds=1.0, clock=clock)
    serve(admission, clock, times=1, seconds=5.0)
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(admission.take())
        assert admission.expected_wait_seconds == 0
    serve(admission, clock, times=15, seconds=0.05)
    # the mean of all of them, not the first one worn off by and by
    with admission.take():
        assert admission.expected_wait_seconds < 0.5


async def test_workers_run_beside_the_event_loop():
    workers = CpuPool(1)
    name = await workers.run(lambda: threading.current_thread().name, deadline=Deadline.after(5))
    workers.close()
    assert name.startswith("aurum-cpu")


async def test_waiting_for_a_worker_ends_with_the_deadline():
    workers, release = CpuPool(1), threading.Event()
    busy = asyncio.ensure_future(workers.run(release.wait, deadline=Deadline.after(60)))
    await asyncio.sleep(0)  # let it take the only thread
    try:
        with pytest.raises(RequestTimeoutError):
            await workers.run(int, deadline=Deadline.after(0.05))
    finally:
        release.set()
        await busy
        workers.close()


async def test_an_error_on_a_thread_keeps_no_reference_to_its_work():
    class Body:
        pass

    def refuse(body: Body) -> None:
        raise InferenceUnavailableError(f"not {type(body).__name__}")

    workers, body = CpuPool(1), Body()
    kept = weakref.ref(body)
    work = partial(refuse, body)
    del body
    gc.collect()
    gc.disable()
    try:
        # pytest.raises would hold the error
        with suppress(InferenceUnavailableError):
            await workers.run(work, deadline=Deadline.after(10))
        del work
        for _ in range(6000):
            # the thread releases it a moment later
            await asyncio.sleep(0.01)
            if kept() is None:
                break
        assert kept() is None
    finally:
        gc.enable()
        workers.close()


def test_a_call_of_a_request_may_take_what_is_left_of_it(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    assert seconds_allowed(5) is None
    Deadline.after(10).make_current()
    assert seconds_allowed(5) == 5
    now[0] += 7
    assert seconds_allowed(5) == 3
    # what the request has begun is recorded
    now[0] += 7
    assert seconds_allowed(5) == 1
    extend_current(100)
    assert seconds_allowed(50) == 50
    forget_current()
    extend_current(100)
    assert seconds_allowed(50) is None


async def test_a_background_task_outlives_the_deadline_of_the_request_that_starts_it():
    async def allowed():
        return seconds_allowed(5)

    Deadline.after(2).make_current()
    async with BackgroundTasks() as tasks:
        assert await tasks.start("task", allowed()) is None
    assert await allowed() is not None
    forget_current()

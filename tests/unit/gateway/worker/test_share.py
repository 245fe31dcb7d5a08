"""Jobs get a small share of an engine that answers callers first."""

import asyncio
import time

import pytest

from gateway.deadline import Deadline
from gateway.errors import InvalidImageError, RequestTimeoutError
from gateway.types import Need
from gateway.worker.share import SharingInference
from tests.support.fake_inference import FakeInference, photo
from tests.support.job_worker import JobEngine


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def shared(patient: JobEngine, clock: Clock | None = None, pause: float = 0.0):
    as_caller = FakeInference()
    made = SharingInference(patient, as_caller, pause_seconds=pause, clock=clock or time.monotonic)
    return made, as_caller


async def ask(engine: SharingInference, seconds: float = 30.0) -> None:
    analysis = await engine.analyse(
        photo(), need=Need.NOTHING_MORE, deadline=Deadline.after(seconds)
    )
    assert analysis.faces


async def test_an_image_waits_behind_all_callers_as_long_as_it_is_answered():
    patient = JobEngine()
    engine, as_caller = shared(patient)
    for _ in range(3):
        await ask(engine)
    assert (len(patient.needs), len(as_caller.needs)) == (3, 0)


async def test_an_image_that_waits_in_vain_is_asked_about_as_a_caller():
    patient = JobEngine(error=RequestTimeoutError("all callers first"))
    clock = Clock()
    engine, as_caller = shared(patient, clock)
    await ask(engine)
    await ask(engine)
    # the second did not wait again
    assert (len(patient.needs), len(as_caller.needs)) == (1, 2)
    clock.at += 61
    patient.error = None
    await ask(engine)
    assert (len(patient.needs), len(as_caller.needs)) == (2, 2), "the callers have gone"


async def test_it_waits_for_a_third_of_the_time():
    patient = JobEngine(error=RequestTimeoutError("all callers first"))
    engine, as_caller = shared(patient)
    await ask(engine, seconds=30)
    assert patient.seconds_left == [pytest.approx(10, abs=1)]
    assert as_caller.seconds_left == [pytest.approx(30, abs=1)]


async def test_callers_come_between_two_images():
    patient = JobEngine(error=RequestTimeoutError("all callers first"))
    engine, _ = shared(patient, pause=0.05)
    started = time.monotonic()
    for _ in range(3):
        await ask(engine)
    assert time.monotonic() - started >= 2 * 0.05


async def test_only_one_image_at_a_time_is_asked_about_as_a_caller():
    patient = JobEngine(error=RequestTimeoutError("all callers first"))
    engine, as_caller = shared(patient)
    as_caller.seconds = 0.01
    await asyncio.gather(*(ask(engine) for _ in range(5)))
    assert len(as_caller.needs) == 5
    assert as_caller.most_active == 1


async def test_other_errors_are_those_of_the_image():
    patient = JobEngine(error=InvalidImageError("broken"))
    engine, as_caller = shared(patient)
    with pytest.raises(InvalidImageError):
        await ask(engine)
    assert as_caller.needs == []
    await engine.close()
    assert patient.closed
    assert as_caller.closed

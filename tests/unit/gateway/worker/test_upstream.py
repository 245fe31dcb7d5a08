"""Work waits for what is away, and the log says so once."""

import asyncio
import logging

import pytest

from gateway.concurrency import BackgroundTasks
from gateway.errors import InferenceUnavailableError, NotFoundError, StorageUnavailableError
from gateway.worker.backoff import Pauses
from gateway.worker.upstream import Insistence, Upstream

HASTY = Pauses(first=0.001, longest=0.002)


class Scripted:
    """Fails with each of these, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO)


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


async def test_a_gate_opens_when_a_probe_succeeds(caplog):
    probe = Scripted(InferenceUnavailableError("away"), InferenceUnavailableError("away"))
    async with BackgroundTasks() as background, asyncio.timeout(60):
        gate = Upstream("Triton", probe, background, pauses=HASTY)
        await gate.wait()
        gate.suspect()
        gate.suspect()
        assert not gate.is_away
        await gate.wait()
    assert (probe.calls, gate.is_away) == (3, False)
    assert said(caplog) == ["waiting for Triton", "Triton is back"]
    assert caplog.records[0].reason == "away"


async def test_a_false_alarm_is_not_logged(caplog):
    async with BackgroundTasks() as background, asyncio.timeout(60):
        gate = Upstream("Triton", Scripted(), background, pauses=HASTY)
        gate.suspect()
        await gate.wait()
    assert said(caplog) == []


async def test_a_gate_says_that_its_upstream_is_away():
    probe = Scripted(*[InferenceUnavailableError("away")] * 1000)
    async with BackgroundTasks() as background, asyncio.timeout(60):
        gate = Upstream("Triton", probe, background, pauses=HASTY)
        gate.suspect()
        while not gate.is_away:
            await asyncio.sleep(0)
        probe.failures.clear()
        await gate.wait()
        assert not gate.is_away


async def test_a_probe_with_a_bug_does_not_close_the_gate_for_good():
    async with BackgroundTasks() as background, asyncio.timeout(60):
        gate = Upstream("Triton", Scripted(ZeroDivisionError()), background, pauses=HASTY)
        gate.suspect()
        await gate.wait()


async def test_calls_are_repeated_until_the_records_answer(caplog):
    call = Scripted(*[StorageUnavailableError("records: gone")] * 3)
    assert await Insistence(pauses=HASTY).on(call) == "answer"
    assert call.calls == 4
    assert said(caplog) == ["waiting for the database", "the database is back"]


async def test_other_errors_are_not_repeated():
    call = Scripted(NotFoundError("no such job"))
    with pytest.raises(NotFoundError):
        await Insistence(pauses=HASTY).on(call)
    assert call.calls == 1


async def test_records_that_are_silent_are_away_until_they_answer(caplog):
    answering = asyncio.Event()

    async def call() -> str:
        await answering.wait()
        return "answer"

    insistence = Insistence(pauses=HASTY, silent_seconds=0.01)
    task = asyncio.create_task(insistence.on(call))
    while not insistence.is_away:
        await asyncio.sleep(0.001)
    answering.set()
    assert await task == "answer"
    assert not insistence.is_away
    assert caplog.records[0].reason == "no answer for 0.01 s"


async def test_a_call_that_is_given_up_ends():
    ended = asyncio.Event()

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(Insistence(pauses=HASTY).on(call))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert ended.is_set()

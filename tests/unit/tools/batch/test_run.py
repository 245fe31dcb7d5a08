"""The loop: what is asked, counted, kept, and what ends it."""

import asyncio
import io
import os
import signal

import pytest
from rich.console import Console

from tests.support.fake_inference import photo
from tools.batch.journal import Journal
from tools.batch.orders import ScoreOrder
from tools.batch.output import NdjsonSink
from tools.batch.progress import ProgressBar
from tools.batch.run import Batch, Targets
from tools.batch.service import Reply
from tools.batch.types import Outcome, Photo, Refused, Skipped
from tools.errors import BatchError, ServiceError

GOOD = Reply(200, {"faces": []})


def photos(count):
    return [Photo.of(f"{i}.png", photo(seed=i), weight=1) for i in range(count)]


class Engine:
    """Answers well until `bad` requests were made, then with `then`."""

    def __init__(self, bad=10**9, then=GOOD):
        self.bad, self.then = bad, then
        self.asked = self.cancelled = 0

    async def ask(self, _):
        self.asked += 1
        if self.asked <= self.bad:
            await asyncio.sleep(0.001)
            return GOOD
        if isinstance(self.then, Exception):
            raise self.then
        return self.then


def batch(engine, *, sink=None, journal=None, parallel=2):
    order = ScoreOrder(engine.ask)
    progress = ProgressBar(Console(file=io.StringIO()), 0)
    return Batch(order, Targets(sink, journal, None, None), progress, parallel=parallel)


async def test_every_kind_of_input_is_counted():
    inputs = [*photos(3), Skipped("x", 1), Refused("y", "is a link", 1), photos(1)[0]]
    engine = Engine()
    summary = await batch(engine).run(iter(inputs))
    assert summary.outcomes == {Outcome.ANSWERED: 3, Outcome.FAILED: 1}
    assert (summary.skipped, summary.repeated, engine.asked) == (1, 1, 3)
    assert [(line.name, line.error["detail"]) for line in summary.failures] == [("y", "is a link")]
    assert summary.exit_status == 2


async def test_a_service_that_is_gone_ends_the_run_with_what_was_answered(tmp_path):
    journal = Journal.open(tmp_path / "a", {"command": "score"}, resume=False)
    engine = Engine(bad=5, then=ServiceError("gone"))
    summary = await batch(engine, journal=journal).run(iter(photos(50)))
    journal.close()
    assert summary.exit_status == 3
    # the other request in flight was answered or cancelled
    assert engine.asked in (6, 7)
    assert (tmp_path / "a").read_bytes().count(b"\n") == summary.outcomes[Outcome.ANSWERED] >= 4


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_answer_that_all_would_get_ends_the_run(status):
    engine = Engine(bad=1, then=Reply(status, {"code": "x", "detail": "why"}))
    summary = await batch(engine, parallel=1).run(iter(photos(50)))
    assert (summary.exit_status, str(summary.error), engine.asked) == (1, "x: why", 2)


async def test_a_second_signal_ends_requests_that_swallow_the_first_cancellation():
    class Stubborn(Engine):
        async def ask(self, _):
            self.asked += 1
            while self.cancelled < 2:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.cancelled += 1
            raise asyncio.CancelledError

    engine = Stubborn()
    running = asyncio.create_task(batch(engine, parallel=1).run(iter(photos(9))))
    while not engine.asked:
        await asyncio.sleep(0)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 60)
    assert (engine.asked, engine.cancelled) == (1, 2)


async def test_an_output_that_cannot_be_written_ends_the_run():
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    engine = Engine()
    sink = NdjsonSink(ScoreOrder(engine.ask), Full())
    summary = await batch(engine, sink=sink, parallel=1).run(iter(photos(50)))
    assert (summary.exit_status, engine.asked) == (1, 1)
    assert "No space left" in str(summary.error)


async def test_an_input_that_breaks_reading_is_no_silence():
    def inputs():
        yield photos(1)[0]
        raise BatchError("the disk is gone")

    summary = await batch(Engine()).run(inputs())
    assert str(summary.error) == "the disk is gone"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_for_terminals(is_terminal):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=is_terminal, width=100)
    with ProgressBar(console, 200) as progress:
        progress.advance(100)
        progress.advance(50, answered=0)
    if is_terminal:
        assert "1 photo " in shown.getvalue()
        assert " 75%" in shown.getvalue()
        assert "left" in shown.getvalue()
    else:
        assert shown.getvalue() == ""

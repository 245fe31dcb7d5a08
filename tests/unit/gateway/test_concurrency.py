"""The owner of background tasks: supervision, restarts, order of the end."""

import ast
import asyncio
import gc
import logging
from pathlib import Path

import pytest

import gateway
from gateway.concurrency import BackgroundTasks, run_together
from gateway.errors import NoFaceError

SOURCES = Path(gateway.__file__).parent
STARTERS = {"create_task", "ensure_future"}


async def fails() -> None:
    raise ValueError("broken")


async def ends_late(log: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        log.append(name)


def test_only_the_owner_starts_tasks():
    """Task groups apart, which wait for their tasks themselves."""
    found = {
        (path.relative_to(SOURCES).as_posix(), ast.unparse(node.func))
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in {*STARTERS, "gather"}
    }
    assert found == {
        ("concurrency.py", "asyncio.create_task"),
        ("concurrency.py", "group.create_task"),
        ("jobs/webhooks.py", "group.create_task"),
    }


async def test_a_crash_is_logged_and_reported_by_name_once(caplog):
    crashed: list[str] = []
    async with BackgroundTasks(on_crash=crashed.append) as tasks:
        task = tasks.start("clusters", fails())
        await asyncio.wait({task})
        await asyncio.sleep(0)
        assert len(tasks) == 0
    assert crashed == ["clusters"]
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.task == "clusters"
    assert record.exc_info[0] is ValueError


async def test_work_that_crashes_or_returns_is_started_again():
    crashed: list[str] = []
    runs = 0
    often = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("broken")
        if runs > 3:
            often.set()
            await asyncio.Event().wait()

    tasks = BackgroundTasks(on_crash=crashed.append)
    async with asyncio.timeout(60), tasks.running("trials", work, restart_seconds=0):
        await often.wait()
    assert (runs, crashed, len(tasks)) == (4, ["trials"], 0)


async def test_the_end_cancels_and_awaits_the_newest_first():
    log: list[str] = []
    async with BackgroundTasks() as tasks:
        for name in ("first", "second", "third"):
            tasks.start(name, ends_late(log, name))
        await asyncio.sleep(0)
    assert log == ["third", "second", "first"]


async def test_detached_work_outlasts_a_caller_that_gives_up_and_is_no_crash(caplog):
    crashed: list[str] = []
    tasks = BackgroundTasks(on_crash=crashed.append)
    go, ended = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        await go.wait()
        ended.set()
        raise ValueError("nobody waits for this")

    with pytest.raises(TimeoutError):
        await tasks.outlast("call", call(), seconds=0.01)
    assert len(tasks) == 1
    go.set()
    await tasks.settle(seconds=5)
    await asyncio.sleep(0)
    gc.collect()
    assert ended.is_set()
    assert (crashed, len(tasks)) == ([], 0)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_the_failure_of_detached_work_reaches_whoever_awaits_it():
    with pytest.raises(ValueError, match="broken"):
        await BackgroundTasks().outlast("call", fails(), seconds=5)


async def test_the_first_failure_is_raised_alone_and_cancels_the_others():
    log: list[str] = []

    async def shows_no_face() -> None:
        raise NoFaceError("image_a shows no face")

    with pytest.raises(NoFaceError, match="image_a") as failure:
        await run_together([ends_late(log, "other"), shows_no_face()])
    assert log == ["other"]
    assert failure.value.__context__ is None


async def test_results_come_in_the_order_of_the_works():
    async def gives(value: int) -> int:
        await asyncio.sleep(0.01 * (3 - value))
        return value

    assert await run_together(gives(value) for value in range(3)) == [0, 1, 2]

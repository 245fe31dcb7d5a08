"""The fallback engine's process: started at need, replaced after a crash, ended when idle."""

import asyncio
import os
import shutil
import signal
import time

import psutil
import pytest

from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError, RequestTimeoutError
from gateway.inference import fallback as module
from gateway.inference.fallback import FallbackInference
from gateway.inference.local import LocalEnsemble
from gateway.settings import CHECKOUT
from gateway.types import Need, Weights
from tests.support import photos
from tests.support.serving import wait_until

REPOSITORY = CHECKOUT / "model_repository"
STAGE = "face_embedding"


@pytest.fixture
async def engine():
    starts = []
    found = FallbackInference(REPOSITORY, threads=2, observer=lambda: starts.append(1))
    found.starts = starts
    yield found
    pid = found.pid
    await found.close()
    assert pid is None or not psutil.pid_exists(pid)


async def ask(engine, data=None, *, seconds=60.0):
    return await engine.analyse(
        data or photos.PORTRAIT.read_bytes(), need=Need.EMBEDDING, deadline=Deadline.after(seconds)
    )


async def test_it_starts_with_the_first_image_and_answers_as_the_ensemble(engine):
    assert engine.pid is None
    with pytest.raises(InferenceUnavailableError):
        await engine.in_service(deadline=Deadline.after(1))
    answers = await asyncio.gather(*(ask(engine) for _ in range(4)))
    assert len(engine.starts) == 1
    own = LocalEnsemble(REPOSITORY).analyse(photos.PORTRAIT.read_bytes(), Need.EMBEDDING)
    for answer in answers:
        assert answer.engine == "fallback"
        assert answer.weights == own.weights
        assert answer.faces[0].box == own.faces[0].box
        assert (answer.faces[0].embedding == own.faces[0].embedding).all()


async def test_an_image_under_way_survives_a_crash_and_the_next_one_starts_another(engine):
    await ask(engine)
    first = engine.pid
    os.kill(first, signal.SIGSTOP)
    under_way = asyncio.create_task(ask(engine))
    while not engine._child.waiting:
        await asyncio.sleep(0.01)
    os.kill(first, signal.SIGKILL)
    assert len((await under_way).faces) == 1
    assert engine.pid != first
    assert len(engine.starts) == 2


async def test_a_process_that_is_stuck_is_killed_after_the_deadline(engine, monkeypatch):
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.2)
    await ask(engine)
    first = engine.pid
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(RequestTimeoutError):
        await ask(engine, seconds=0.3)
    # its slot is free again once the process is gone
    assert len((await ask(engine)).faces) == 1
    assert not psutil.pid_exists(first)


async def test_it_ends_when_it_was_idle_for_a_while():
    engine = FallbackInference(REPOSITORY, threads=1, idle_seconds=0.5)
    await ask(engine)
    first = engine.pid
    started = time.monotonic()
    while psutil.pid_exists(first):
        assert time.monotonic() - started < 30
        await asyncio.sleep(0.05)
    assert engine.pid is None
    assert (await ask(engine)).engine == "fallback"
    await engine.close()


async def test_it_loads_the_weights_that_triton_answered_with(tmp_path):
    repository = tmp_path / "models"
    shutil.copytree(REPOSITORY, repository)
    shutil.copytree(repository / STAGE / "1", repository / STAGE / "2")
    engine = FallbackInference(repository, threads=1)
    try:
        newest = (await ask(engine)).weights[STAGE]
        assert newest.version == "2"
        engine.prefer({STAGE: Weights(newest.id, "1")})
        assert (await ask(engine)).weights[STAGE].version == "1"
        first = engine.pid
        # a version that is gone costs one start, not one for each image
        engine.prefer({STAGE: Weights("a" * 16, "7")})
        assert (await ask(engine)).weights[STAGE].version == "2"
        second = engine.pid
        await ask(engine)
        assert engine.pid == second != first
    finally:
        await engine.close()


async def test_without_networks_it_says_so_and_is_not_started_for_each_image(tmp_path):
    engine = FallbackInference(tmp_path, threads=1)
    for _ in range(2):
        with pytest.raises(InferenceUnavailableError, match="face_detection has no version"):
            await ask(engine)
    status = await engine.status(deadline=Deadline.after(5))
    assert (status.ready, "has no version" in status.detail) == (False, True)
    assert engine.pid is None
    await engine.close()


async def test_it_ends_with_the_gateway_that_started_it(engine):
    await ask(engine)
    process = psutil.Process(engine.pid)
    # what remains of a killed gateway is a closed pipe
    engine._child.retired = True
    engine._child.process.stdin.close()
    assert await asyncio.to_thread(wait_until, lambda: not process.is_running())

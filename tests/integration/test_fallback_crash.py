"""A picture that crashes its decoder, while the fallback engine answers."""

import asyncio
import os

import pytest

from gateway.deadline import Deadline
from gateway.errors import AurumError, InvalidImageError
from gateway.inference.fallback import FallbackInference
from gateway.settings import CHECKOUT
from gateway.types import Need
from tests.support import photos
from tests.support.crashing_decoder import INJECTED, crashing

PICTURE = photos.PORTRAIT.read_bytes()


@pytest.fixture
async def engine(monkeypatch):
    path = os.pathsep.join([str(INJECTED), os.environ.get("PYTHONPATH", str(CHECKOUT))])
    monkeypatch.setenv("PYTHONPATH", path)
    starts = []
    found = FallbackInference(
        CHECKOUT / "model_repository", threads=2, observer=lambda: starts.append(1)
    )
    found.starts = starts
    yield found
    await found.close()


async def ask(engine, data):
    deadline = Deadline.after(60)
    return await engine.analyse(data, need=Need.EMBEDDING, deadline=deadline)


async def test_it_costs_the_engine_and_the_others_nothing(engine):
    pictures = [crashing(PICTURE, each) if each % 3 == 0 else PICTURE for each in range(9)]

    async def outcome(data):
        try:
            return len((await ask(engine, data)).faces)
        except InvalidImageError as error:
            return error.detail

    found = await asyncio.gather(*map(outcome, pictures))
    refusal = "the image cannot be decoded: the decoder does not survive it"
    assert found == [refusal if each % 3 == 0 else 1 for each in range(9)]
    assert len(engine.starts) == 1


async def test_a_process_whose_reply_cannot_be_read_is_replaced(engine, monkeypatch):
    await ask(engine, PICTURE)
    first = engine.pid

    def unreadable(*_):
        raise ImportError("no such module in a reply")

    with monkeypatch.context() as patched:
        patched.setattr("gateway.inference.fallback._hand_over", unreadable)
        under_way = asyncio.create_task(ask(engine, PICTURE))
        while engine.pid == first:
            await asyncio.sleep(0.01)
    try:
        assert len((await under_way).faces) == 1
    except AurumError as error:
        pytest.fail(f"it was not given to the next process: {error.detail}")
    assert engine.pid not in (None, first)

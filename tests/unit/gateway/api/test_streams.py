import asyncio

import pytest
from aiohttp import web

from gateway.api.streams import StoppingError, Streams
from gateway.errors import RateLimitedError


async def test_stopping_interrupts_what_is_open_and_refuses_the_next():
    streams = Streams()
    entered = asyncio.Event()

    async def wait() -> str:
        try:
            async with streams.until_stop():
                entered.set()
                await asyncio.sleep(60)
        except StoppingError as error:
            return error.code
        return "waited"

    task = asyncio.create_task(wait())
    await entered.wait()
    assert len(streams) == 1
    await streams.stop(web.Application())
    assert await task == "jobs_unavailable"
    assert len(streams) == 0
    with pytest.raises(StoppingError):
        async with streams.until_stop():
            pass


async def test_timeouts_of_the_block_are_its_own():
    streams = Streams()
    with pytest.raises(TimeoutError):
        async with streams.until_stop(), asyncio.timeout(0):
            await asyncio.sleep(60)
    with pytest.raises(TimeoutError, match="own"):
        async with streams.until_stop():
            raise TimeoutError("own")
    assert len(streams) == 0


async def test_too_many_are_refused():
    streams = Streams(most=2)
    async with streams.until_stop(), streams.until_stop():
        with pytest.raises(RateLimitedError, match="2 answers") as refused:
            async with streams.until_stop():
                pass
        assert refused.value.retry_after_seconds
    async with streams.until_stop():
        assert len(streams) == 1

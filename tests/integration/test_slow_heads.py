"""Heads of requests that do not end: the connection is closed, and slow bodies are not affected."""

import asyncio
import time

import pytest

from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import serving
from tests.support.raw_http import connect, exchange, head

LIVE = head("GET", "/api/health/live", close=False)
SECONDS = 0.8


@pytest.fixture
async def client():
    async with serving(FakeInference(), Embedder(), head_timeout_seconds=SECONDS) as client:
        yield client


async def closed(reader) -> bool:
    """Wait until the server closes the connection, without an answer."""
    async with asyncio.timeout(60):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


async def answered(reader) -> None:
    async with asyncio.timeout(60):
        start = await reader.readuntil(b"\r\n\r\n")
        assert start.startswith(b"HTTP/1.1 200")
        await reader.readuntil(b"}")


async def trickle(writer) -> None:
    """Send headers for good, a byte at a time."""
    writer.write(b"GET /api/health/live HTTP/1.1\r\nHost: a\r\nX-Long: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_a_connection_without_a_request_is_closed(client):
    reader, writer = await connect(client)
    assert await closed(reader)
    writer.close()


async def test_bytes_that_keep_coming_do_not_keep_the_connection(client):
    reader, writer = await connect(client)
    sending = asyncio.create_task(trickle(writer))
    assert await closed(reader)
    sending.cancel()
    writer.close()


async def test_a_connection_may_rest_but_its_next_head_must_end(client):
    reader, writer = await connect(client)
    writer.write(LIVE)
    await answered(reader)
    await asyncio.sleep(1.5 * SECONDS)
    writer.write(LIVE)
    await answered(reader)
    sending = asyncio.create_task(trickle(writer))
    assert await closed(reader)
    sending.cancel()
    writer.close()


async def test_a_head_in_pieces_and_a_slow_body_are_answered(client):
    body = photo()
    sent = head("POST", "/api/ml/detect", "Content-Type: image/png", length=len(body))
    middle = len(sent) // 2
    started = time.monotonic()
    pieces = [sent[:middle], sent[middle:], *(body[at : at + 20] for at in range(0, 200, 20))]
    answer = await exchange(client, [*pieces, body[200:]], pause=0.08)
    assert time.monotonic() - started > SECONDS
    assert answer.status == 200

"""Many images at once, and the time limits of one call."""

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from aurum_client import AsyncAurumClient, AurumClient, RetryPolicy, TimeLimitError, TimeLimits
from aurum_client.waiting import async_map_images, map_images

ONCE = RetryPolicy(attempts=1)
ANSWER = b'{"status": "live"}'


def test_images_are_taken_as_they_are_needed():
    taken: list[int] = []

    def images() -> Iterator[bytes]:
        number = 0
        while True:
            taken.append(number)
            yield bytes([number])
            number += 1

    outcomes = map_images(lambda image: image, images(), 2)  # type: ignore[arg-type,return-value]
    assert [next(outcomes).index for _ in range(3)] == [0, 1, 2]
    outcomes.close()
    assert len(taken) < 20


async def test_an_abandoned_batch_ends_its_calls():
    active = 0

    async def analyse(image: object) -> object:
        nonlocal active
        active += 1
        try:
            await asyncio.sleep(0 if image == b"first" else 60)
        finally:
            active -= 1
        return image

    outcomes = async_map_images(analyse, [b"first", *[b"x"] * 9], 3)  # type: ignore[arg-type]
    async for outcome in outcomes:
        assert outcome.image == b"first"
        break
    await asyncio.wait_for(outcomes.aclose(), 60)
    assert active == 0


async def test_a_failure_that_is_no_refusal_ends_the_batch():
    def analyse(image: object) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(map_images(analyse, [b"x"], 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        list(map_images(analyse, [b"x"], 0))  # type: ignore[arg-type]


@contextmanager
def answering(parts: list[bytes], pause_seconds: float) -> Iterator[str]:
    """Serve one connection: these bytes, with pauses between them; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                for part in parts:
                    try:
                        connection.sendall(part)
                    except OSError:
                        return
                    ended.wait(pause_seconds)
                ended.wait(60)

        ended = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"


def live(kind: type, url: str, limits: TimeLimits) -> object:
    if kind is AurumClient:
        with AurumClient(url, limits=limits, retry=ONCE) as client:
            return client.live()

    async def run() -> object:
        async with AsyncAurumClient(url, limits=limits, retry=ONCE) as client:
            return await client.live()

    return asyncio.run(run())


@pytest.mark.parametrize("kind", [AurumClient, AsyncAurumClient])
@pytest.mark.parametrize(
    ("parts", "pause_seconds", "limits", "limit"),
    [
        # each byte arrives within the read limit, all of them do not
        ([HEAD, *[b"x"] * 400], 0.05, TimeLimits(read=5, total=0.5), "total"),
        ([HEAD], 0, TimeLimits(read=5, total=0.5), "total"),
        ([], 0, TimeLimits(read=5, total=0.5), "total"),
        ([], 0, TimeLimits(read=0.3, total=30), "read"),
    ],
)
def test_slow_answers_end_at_the_limit(kind, parts, pause_seconds, limits, limit):
    with answering(parts, pause_seconds) as url:
        started = time.monotonic()
        with pytest.raises(TimeLimitError) as passed:
            live(kind, url, limits)
    assert passed.value.limit == limit
    assert time.monotonic() - started < 8


def test_the_body_gets_the_time_that_the_headers_left():
    read_limits: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        def body() -> Iterator[bytes]:
            # where the transport reads it
            read_limits.append(request.extensions["timeout"]["read"])
            yield ANSWER

        read_limits.append(request.extensions["timeout"]["read"])
        time.sleep(0.3)
        return httpx.Response(200, content=body())

    limits = TimeLimits(total=30)
    with AurumClient("http://a", limits=limits, transport=httpx.MockTransport(answer)) as client:
        assert client.live().status == "live"
    before, after = read_limits
    assert after <= before - 0.3


@pytest.mark.parametrize("kind", [AurumClient, AsyncAurumClient])
def test_compressed_answers(kind):
    body = gzip.compress(ANSWER)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with answering([head.encode(), body], 0) as url:
        assert live(kind, url, TimeLimits()).status == "live"

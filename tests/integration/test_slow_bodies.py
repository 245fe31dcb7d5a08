"""Bodies that come slowly: answered as long as they keep coming, refused when they do not."""

import asyncio
import time

import pytest

from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, post, serving
from tests.support.raw_http import connect, exchange, head, parse

PNG = photo() + bytes(20_000)
LIMITS = {
    "request_timeout_seconds": 0.5,
    "body_idle_seconds": 0.4,
    "body_min_bytes_per_second": 1000,
    "body_timeout_seconds": 1.5,
}
PATIENT = {
    **LIMITS,
    "request_timeout_seconds": 1.0,
    "body_idle_seconds": 20.0,
    "body_timeout_seconds": 60.0,
}
"""For bodies that are answered: a machine that stalls for a moment fails none."""
BOUNDARY = "Content-Type: multipart/form-data; boundary=b"
START = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
END = b"\r\n--b--\r\n"


@pytest.fixture
def fake():
    return FakeInference()


@pytest.fixture
async def client(fake):
    async with serving(fake, Embedder(), **LIMITS) as client:
        yield client


@pytest.fixture
async def patient(fake):
    async with serving(fake, Embedder(), **PATIENT) as client:
        yield client


def cut(data: bytes, pieces: int) -> list[bytes]:
    size = -(-len(data) // pieces)
    return [data[at : at + size] for at in range(0, len(data), size)]


WAYS = {
    "raw": ("/api/ml/detect", "Content-Type: image/png", PNG),
    "form": ("/api/ml/detect", BOUNDARY, START + PNG + END),
    "form of a collection": ("/api/collections/none/search", BOUNDARY, START + PNG + END),
    "json": (
        "/api/collections",
        "Content-Type: application/json",
        b'{"name": "people"}' + b" " * 9000,
    ),
}


async def test_a_slow_body_is_answered_though_it_takes_longer_than_the_deadline(patient):
    async def send(path: str, kind: str, body: bytes):
        started = time.monotonic()
        sent = [head("POST", path, kind, length=len(body)), *cut(body, 8)]
        answer = await exchange(patient, sent, pause=0.15)
        assert time.monotonic() - started > PATIENT["request_timeout_seconds"]
        return answer.status

    # all at once: each of them only waits
    statuses = await asyncio.gather(*(send(*way) for way in WAYS.values()))
    assert statuses == [200, 200, 404, 201]


async def test_the_deadline_is_for_the_work_and_starts_with_the_last_byte(patient, fake):
    fake.seconds = 0.3
    sent = [head("POST", "/api/ml/detect", WAYS["raw"][1], length=len(PNG)), *cut(PNG, 5)]
    answer = await exchange(patient, sent, pause=0.2)
    assert answer.status == 200
    fake.seconds = 2.0
    answer = await exchange(patient, sent)
    assert (answer.status, answer.code) == (504, "timeout")
    assert "the body" not in answer.detail


async def test_a_body_that_stalls_is_refused_and_the_connection_closed(client):
    async def send(path: str, kind: str, body: bytes, *sent: bytes) -> None:
        start = head("POST", path, kind, length=len(body), close=False)
        answer = await exchange(client, [start, *sent])
        assert (answer.status, answer.code) == (504, "timeout"), (path, kind)
        assert "body" in answer.detail

    # `exchange` reads until the server closes: aiohttp lingers 10 seconds by itself
    async with asyncio.timeout(9), asyncio.TaskGroup() as clients:
        for way in WAYS.values():
            clients.create_task(send(*way))
            clients.create_task(send(*way, way[2][:10]))


async def test_a_body_that_came_fast_may_not_stall_either(client):
    sent = [head("POST", "/api/ml/detect", WAYS["raw"][1], length=20_000), bytes(10_000)]
    answer = await exchange(client, sent)
    assert (answer.status, answer.code) == (504, "timeout")
    assert answer.detail == "no bytes of the body arrived for 0.4 s"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_trickles_is_refused(fake, chunked):
    kind = WAYS["raw"][1]
    if chunked:
        start = head("POST", "/api/ml/detect", kind, "Transfer-Encoding: chunked", close=False)
        sent = [start, *[b"1\r\na\r\n"] * 1000]
    else:
        sent = [head("POST", "/api/ml/detect", kind, length=5000, close=False), *[b"a"] * 1000]
    # all of it would take ten seconds at least
    async with (
        serving(fake, **{**LIMITS, "body_idle_seconds": 1.0}) as client,
        asyncio.timeout(9),
    ):
        answer = await exchange(client, sent, pause=0.01)
    assert (answer.status, answer.code) == (504, "timeout")
    assert "slower than 1000 bytes per second" in answer.detail


async def test_a_body_that_never_ends_is_refused(fake):
    sent = [head("POST", "/api/ml/detect", WAYS["raw"][1], length=1 << 20), *[bytes(200)] * 1000]
    async with serving(fake, **{**PATIENT, "body_timeout_seconds": 1.5}) as client:
        answer = await exchange(client, sent, pause=0.02)
    assert (answer.status, answer.code) == (504, "timeout")
    assert "not complete after 1.5 s" in answer.detail


async def test_slow_bodies_hold_no_more_memory_than_is_allowed(fake):
    # the first one is held until the second has come, also by a machine that stalls for a moment
    limits = {**PATIENT, "body_idle_seconds": 2.0, "max_receiving_megabytes": 1}
    async with serving(fake, **limits) as client:
        start = head("POST", "/api/ml/detect", WAYS["raw"][1], length=900_000)
        first = asyncio.ensure_future(exchange(client, [start, bytes(800_000)]))
        await asyncio.sleep(0.1)
        answer = await exchange(client, [start, bytes(900_000)])
        assert (answer.status, answer.code) == (503, "inference_unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert (await first).status == 504
        # what the refused ones held is free again
        status, _, _ = await post(client, "detect", form(image=PNG + bytes(900_000)))
        assert status == 200


async def test_a_stop_does_not_wait_for_slow_bodies(fake):
    started = 0.0
    async with serving(fake, request_timeout_seconds=60, body_idle_seconds=60) as client:
        reader, writer = await connect(client)
        writer.write(head("POST", "/api/ml/detect", WAYS["raw"][1], length=len(PNG)) + PNG[:50])
        await asyncio.sleep(0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 20
    answer = parse(await reader.read())
    writer.close()
    assert (answer.status, answer.code) == (503, "inference_unavailable")
    assert "Retry-After" in answer.headers


async def test_a_stop_does_not_wait_for_bodies_that_were_refused_unread(fake):
    async with serving(fake) as client:
        reader, writer = await connect(client)
        writer.write(head("POST", "/api/ml/detect", WAYS["raw"][1], length=1 << 30, close=False))
        assert b" 413 " in await reader.readline()
        started = time.monotonic()
    # aiohttp lingers 10 seconds by itself
    assert time.monotonic() - started < 9
    writer.close()


async def test_metrics_and_timings_tell_receiving_from_work(patient):
    sent = [head("POST", "/api/ml/detect", WAYS["raw"][1], length=len(PNG)), *cut(PNG, 8)]
    answer = await exchange(patient, sent, pause=0.1)
    assert b'"total":' in answer.body
    total = float(answer.body.split(b'"total":')[1].split(b"}")[0])
    assert total > 600, "took_ms.total counts from the head of the request"
    async with patient.get("/metrics") as response:
        lines = dict(
            line.rsplit(" ", 1)
            for line in (await response.text()).splitlines()
            if line.startswith("aurum_http_re")
        )
    received = float(lines['aurum_http_receiving_seconds_sum{route="/api/ml/detect"}'])
    assert received > 0.6
    worked = lines['aurum_http_request_seconds_sum{method="POST",route="/api/ml/detect"}']
    assert float(worked) < received

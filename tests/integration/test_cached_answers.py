"""Cached answers through the gateway, with a real Redis beside it that lives, hangs or dies."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from itertools import product

import pytest
from redis.asyncio import Redis

from gateway.cache import redis as redis_layer
from gateway.cache.keys import entry_key, entry_name
from gateway.errors import InvalidImageError
from gateway.types import DEFAULT_TENANT
from tests.support import redis
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, post, serving, sha256

HEADERS = {"Content-Type": "image/png"}
HANGING_SECONDS = 20.0


@pytest.fixture
def server():
    with redis.server() as found:
        yield found


async def ask(client, data, route="embed", **params):
    status, body, _ = await post(client, route, data, headers=HEADERS, params=params)
    assert status == 200, body
    return body


def content(body):
    """Return a body without the fields that differ between requests."""
    return {key: body[key] for key in body.keys() - {"cached", "request_id", "took_ms"}}


async def value_of(client, metric):
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(metric))


async def believing(client):
    """Wait until the weights in service are known: then an answer is found again."""
    data = photo(seed=99)
    for _ in range(1200):
        if (await ask(client, data))["cached"]:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("nothing is ever cached")


OPTIONS = list(
    product(
        ["score", "detect", "embed"],
        ["", "embedding", "crop", "embedding,crop"],
        [1, 3, 32, 40],
        [0.5, 0.93],
    )
)


async def test_a_cached_answer_is_the_computed_one_whatever_was_asked_before(server):
    url, _ = server
    data = photo(faces=4)
    async with (
        serving(FakeInference()) as plain,
        serving(FakeInference(), cache="on", redis_url=url) as client,
    ):
        await believing(client)
        hits = 0
        for route, include, max_faces, min_confidence in OPTIONS * 2:
            params = {"max_faces": max_faces, "min_confidence": min_confidence}
            if include:
                params["include"] = include
            computed = await ask(plain, data, route, **params)
            answer = await ask(client, data, route, **params)
            assert content(answer) == content(computed)
            hits += answer["cached"]
        assert hits >= len(OPTIONS)


async def test_an_answer_with_more_faces_serves_who_asks_for_fewer(server):
    url, _ = server
    engine = FakeInference()
    engine.confidences = [0.9] * 80
    async with serving(engine, cache="on", redis_url=url) as client:
        await believing(client)
        for number, (query, cached) in enumerate(
            [
                ({"max_faces": 64}, False),
                ({"max_faces": 5}, True),
                ({}, True),
                ({"max_faces": 70}, False),
                ({"max_faces": 64}, True),
                # all that there are
                ({"max_faces": 512}, False),
                ({"max_faces": 500}, True),
                ({"rotation": "off"}, False),
                ({"detail": "high"}, False),
                ({"detail": "high", "max_faces": 3}, True),
            ]
        ):
            answer = await ask(client, photo(faces=80), **query)
            assert answer["cached"] is cached, number
            assert len(answer["faces"]) == min(int(query.get("max_faces", 32)), 80)
            assert answer["faces_found"] == 80


async def test_what_one_gateway_computed_another_finds_in_redis(server):
    url, _ = server
    engine = FakeInference()
    async with (
        serving(FakeInference(), cache="on", redis_url=url) as first,
        serving(engine, cache="on", redis_url=url) as second,
    ):
        await believing(first)
        await believing(second)
        await ask(first, photo())
        needs = len(engine.needs)
        assert (await ask(second, photo()))["cached"]
        assert len(engine.needs) == needs
        assert await value_of(second, 'aurum_cache_lookups_total{layer="redis",outcome="hit"}') >= 1


async def test_verify_is_cached_when_both_images_are(server):
    url, _ = server
    async with serving(FakeInference(), cache="on", redis_url=url) as client:
        await believing(client)
        images = {"image_a": photo(), "image_b": photo(seed=1)}
        first, second = [(await post(client, "verify", form(**images)))[1] for _ in range(2)]
        assert (first["cached"], second["cached"]) == (False, True)
        assert content(first) == content(second)


@pytest.mark.parametrize("cached", ["on", "off"])
async def test_identical_requests_at_once_share_one_inference(cached):
    engine = FakeInference()
    async with serving(engine, cache=cached) as client:
        await asyncio.sleep(0.1)
        engine.seconds = 0.3
        answers = await asyncio.gather(*(ask(client, photo(seed=5)) for _ in range(8)))
        assert len(engine.needs) == (1 if cached == "on" else 8)
        assert len({str(content(answer)) for answer in answers}) == 1
        assert await value_of(client, "aurum_shared_flights_total") == (7 if cached == "on" else 0)


async def test_errors_are_not_cached():
    engine = FakeInference()
    async with serving(engine, cache="on") as client:
        await believing(client)
        engine.error = InvalidImageError("no")
        assert (await post(client, "detect", photo(), headers=HEADERS))[0] == 422
        engine.error = None
        assert not (await ask(client, photo(), "detect"))["cached"]


async def test_after_a_swap_no_answer_of_the_old_weights_is_served():
    engine = FakeInference()
    async with serving(engine, cache="on") as client:
        await believing(client)
        old = await ask(client, photo())
        assert (await ask(client, photo()))["cached"]
        engine.space = "0" * 16
        # one computed answer is enough to notice
        await ask(client, photo(seed=3))
        for _ in range(5):
            new = await ask(client, photo())
            assert new["models"]["space"] == "0" * 16
        # without any, a second is
        engine.space = old["models"]["space"]
        await asyncio.sleep(1.3)
        assert (await ask(client, photo()))["models"]["space"] == old["models"]["space"]


@pytest.mark.parametrize("poison", ["type", "garbage", "cut", "other place"])
async def test_a_poisoned_value_costs_a_miss(server, poison):
    url, _ = server
    redis_client = Redis.from_url(url)
    data = photo(faces=2)
    key = entry_key(entry_name(sha256(data), DEFAULT_TENANT))
    async with serving(FakeInference(), cache="on", redis_url=url) as writer:
        await believing(writer)
        good = await ask(writer, data)
        kept = await redis_client.hgetall(key)
        assert kept
    for field, value in kept.items():
        if poison == "type":
            await redis_client.delete(key)
            await redis_client.set(key, b"no hash")
            break
        other = {"garbage": b"\x00" * 40, "cut": value[:-1], "other place": value[::-1]}
        await redis_client.hset(key, field, other[poison])
    async with serving(FakeInference(), cache="on", redis_url=url) as reader:
        await believing(reader)
        answer = await ask(reader, data)
        assert not answer["cached"]
        assert content(answer) == content(good)
    await redis_client.aclose()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_redis_that_dies_or_hangs_under_traffic_fails_no_request(server, end, monkeypatch):
    url, process = server
    async with AsyncExitStack() as stack:
        with monkeypatch.context() as patch:
            # a request without a deadline of its own would hang for as long as its connection
            patch.setattr(redis_layer, "_HEALTH_SECONDS", HANGING_SECONDS)
            opened = serving(FakeInference(), cache="on", redis_url=url)
            client = await stack.enter_async_context(opened)
        await believing(client)
        slowest, answers = 0.0, 0

        async def caller(number):
            nonlocal slowest, answers
            for turn in range(60):
                # every other image is new, so that Redis is asked each time
                seed = turn if turn % 2 else number
                started = time.monotonic()
                await ask(client, photo(faces=1 + number, seed=seed))
                slowest = max(slowest, time.monotonic() - started)
                answers += 1
                await asyncio.sleep(0.02)

        callers = [asyncio.create_task(caller(number)) for number in range(4)]
        await asyncio.sleep(0.3)
        process.send_signal(end)
        await asyncio.gather(*callers)
        assert answers == 240
        assert slowest < HANGING_SECONDS
        assert await cache_becomes(client, "degraded")
        if end is signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
            assert await cache_becomes(client, "ready")


async def cache_becomes(client, status: str) -> bool:
    """Whether readiness, which looks at Redis once a second, comes to say so; it stays 200."""
    for _ in range(600):
        async with client.get("/api/health/ready") as response:
            assert response.status == 200
            if (await response.json())["parts"]["cache"]["status"] == status:
                return True
        await asyncio.sleep(0.1)
    return False

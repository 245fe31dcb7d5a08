"""Contract of every cache layer, in memory and on a real Redis server."""

import asyncio

import pytest
from redis.asyncio import Redis

from gateway.cache.base import CacheError
from gateway.cache.keys import entry_key
from gateway.cache.memory import MemoryCache
from gateway.cache.redis import RedisCache
from gateway.redis import connect
from tests.support import redis

A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def redis_url():
    with redis.server() as (url, _):
        yield url


def make(kind, request, ttl_seconds=60):
    if kind == "memory":
        return MemoryCache(max_bytes=10_000_000, ttl_seconds=ttl_seconds)
    url = request.getfixturevalue("redis_url")
    return RedisCache(url, ttl_seconds=ttl_seconds, timeout_seconds=5)


@pytest.fixture(params=["memory", "redis"])
async def cache(request):
    made = make(request.param, request)
    yield made
    for image in (A, B):
        await made.forget(image)
    await made.close()


async def test_get_returns_only_what_was_set(cache):
    await cache.set(A, "x", b"\x00\xffone")
    await cache.set(A, "y", b"two")
    assert await cache.get(A, ["x", "z"]) == {"x": b"\x00\xffone"}
    assert await cache.get(A, ["x", "y"]) == {"x": b"\x00\xffone", "y": b"two"}
    assert await cache.get(B, ["x"]) == {}


async def test_a_value_is_replaced(cache):
    await cache.set(A, "x", b"one")
    await cache.set(A, "x", b"two")
    assert await cache.get(A, ["x"]) == {"x": b"two"}


async def test_forget_drops_all_entries_of_an_image_and_counts_them(cache):
    await cache.set(A, "x", b"one")
    await cache.set(A, "y", b"two")
    await cache.set(B, "x", b"other")
    assert await cache.forget(A) == 2
    assert await cache.forget(A) == 0
    assert await cache.get(A, ["x", "y"]) == {}
    assert await cache.get(B, ["x"]) == {"x": b"other"}


async def test_layer_is_healthy(cache):
    assert await cache.health() is None


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_a_shelf_expires_counted_from_its_first_value(kind, request):
    cache = make(kind, request, ttl_seconds=2)
    await cache.set(A, "x", b"one")
    await asyncio.sleep(0.5)
    await cache.set(A, "y", b"two")
    # a slow machine may come later; counted from the second value it would be there until 2.5
    await asyncio.sleep(1.6)
    assert await cache.get(A, ["x", "y"]) == {}
    await cache.close()


async def test_a_foreign_value_under_the_key_is_a_miss_and_removed(redis_url):
    cache = RedisCache(redis_url, ttl_seconds=60, timeout_seconds=5)
    client = Redis.from_url(redis_url)
    await client.set(entry_key(A), b"no hash")
    with pytest.raises(CacheError) as failure:
        await cache.get(A, ["x"])
    assert failure.value.failure == "error"
    assert await cache.health() is None
    await cache.set(A, "x", b"one")
    assert await cache.get(A, ["x"]) == {"x": b"one"}
    await client.aclose()
    await cache.close()


async def test_a_dead_server_is_not_called_until_it_is_back():
    with redis.server() as (url, process):
        cache = RedisCache(url, ttl_seconds=60, timeout_seconds=5)
        await cache.set(A, "x", b"one")
        process.kill()
        process.wait()
        failures = []
        for _ in range(5):
            with pytest.raises(CacheError) as failure:
                await cache.get(A, ["x"])
            failures.append(failure.value.failure)
        assert failures == ["error", "error", "error", "refused", "refused"]
        assert await cache.health() is not None
        socket = url.removeprefix("unix://")
        with redis.running(redis.Path(f"{socket}2")):
            redis.Path(f"{socket}2").replace(socket)
            assert await cache.health() is None
            await cache.set(A, "x", b"one")
            assert await cache.get(A, ["x"]) == {"x": b"one"}
        await cache.close()


async def test_entries_that_could_not_be_dropped_are_not_read_and_dropped_later():
    with redis.server() as (url, process):
        cache = RedisCache(url, ttl_seconds=60, timeout_seconds=1)
        await cache.set(A, "x", b"one")
        process.send_signal(19)  # SIGSTOP
        with pytest.raises(CacheError) as failure:
            await cache.forget(A)
        assert failure.value.failure == "timeout"
        process.send_signal(18)  # SIGCONT
        with pytest.raises(CacheError, match="being forgotten"):
            await cache.get(A, ["x"])
        assert await cache.health() is None
        assert await cache.get(A, ["x"]) == {}
        await cache.close()


async def test_clients_show_their_purpose_to_the_server(redis_url):
    client = connect(redis_url, purpose="lease", timeout_seconds=1)
    try:
        assert await client.client_getname() == "aurum-lease"
    finally:
        await client.aclose()

"""The primary of a Redis with Sentinels is killed, and the gateway's clients find the next one.

Servers and Sentinels are started by `deploy/redis/start.sh`, as in the production stack.
"""

import asyncio

import pytest

from gateway.cache.base import CacheError
from gateway.cache.redis import RedisCache
from gateway.redis import UNREACHABLE, connect
from tests.support import redis_sentinel

IMAGE = "a" * 64


@pytest.fixture(scope="module")
def watched():
    with redis_sentinel.running() as watched:
        yield watched


async def written(cache: RedisCache, value: bytes) -> None:
    """Write until a server takes it."""
    while True:
        try:
            return await cache.set(IMAGE, "x", value)
        except CacheError:
            # as the gateway's probe does, which closes the circuit again
            await cache.health()
            await asyncio.sleep(0.1)


async def test_calls_go_to_the_primary_and_after_its_death_to_its_replica(watched):
    before = watched.primary()
    cache = RedisCache(watched.url, ttl_seconds=60, timeout_seconds=2)
    client = connect(watched.url, purpose="lease", timeout_seconds=2)
    async with asyncio.timeout(60):
        await cache.set(IMAGE, "x", b"old")
        assert (await client.info("server"))["tcp_port"] == before
        # the replica has it, so that nothing is lost
        assert await client.wait(1, 5000) == 1

        watched.kill(before)
        with pytest.raises(UNREACHABLE):
            await client.ping()
        [after] = set(watched.servers) - {before}

        await written(cache, b"new")
        assert await cache.get(IMAGE, ["x"]) == {"x": b"new"}
        assert (await client.info("server"))["tcp_port"] == after
    await cache.close()
    await client.aclose()
    # both clients closed what they had opened, also to the Sentinels
    for port in (after, *watched.sentinels):
        names = " ".join(watched.ask(port, "client", "list"))
        assert "name=aurum-" not in names

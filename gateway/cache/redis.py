"""The second layer: Redis, shared by all gateways. Needs Redis 7.0 (`EXPIRE … NX`)."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from gateway.cache.base import CacheError
from gateway.cache.keys import entry_key
from gateway.circuit_breaker import CircuitBreaker
from gateway.redis import UNREACHABLE, RedisError, ResponseError, connect
from gateway.tls import NO_FILES, TlsFiles

_HEALTH_SECONDS: Final = 1.0
_WRONG_TYPE: Final = "WRONGTYPE"


class RedisCache:
    """`Cache` in Redis: a hash for each image. Opened within a running event loop.

    An operation has `timeout_seconds`, connecting included. After a few failures in a row nothing
    is asked until `health`, called in the background, finds the server answering again.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_seconds: float,
        timeout_seconds: float,
        breaker: CircuitBreaker | None = None,
        files: TlsFiles = NO_FILES,
    ) -> None:
        """files: certificates, for `rediss://`."""
        self._client = connect(url, purpose="cache", timeout_seconds=_HEALTH_SECONDS, files=files)
        self._ttl_seconds = max(int(ttl_seconds), 1)
        self._timeout_seconds = timeout_seconds
        self._breaker = breaker or CircuitBreaker()
        self._owed: set[str] = set()

    async def get(self, image: str, fields: Sequence[str]) -> Mapping[str, bytes]:
        """See `Cache.get`."""
        if image in self._owed:
            raise CacheError("refused", "the image is being forgotten")
        async with self._asking(image):
            found = await self._client.hmget(entry_key(image), list(fields))
            # within: what is no list of as many values is an answer that makes no sense
            return {
                field: value
                for field, value in zip(fields, found, strict=True)
                if isinstance(value, bytes)
            }

    async def set(self, image: str, field: str, value: bytes) -> None:
        """See `Cache.set`."""
        if image in self._owed:
            raise CacheError("refused", "the image is being forgotten")
        key = entry_key(image)
        async with self._asking(image), self._client.pipeline(transaction=True) as steps:
            steps.hset(key, field, value)
            steps.expire(key, self._ttl_seconds, nx=True)
            await steps.execute()

    async def forget(self, image: str) -> int:
        """See `Cache.forget`. What cannot be dropped now is no longer read, and dropped later."""
        self._owed.add(image)
        async with self._asking(image):
            dropped = await self._drop(image)
        self._owed.discard(image)
        return dropped

    async def health(self) -> str | None:
        """See `Cache.health`. Also drops what could not be dropped before."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._client.ping()
                for image in tuple(self._owed):
                    await self._drop(image)
                    self._owed.discard(image)
        except UNREACHABLE as error:
            return f"{type(error).__name__}: {error}".rstrip(": ")
        self._breaker.succeeded()
        return None

    async def close(self) -> None:
        """See `Cache.close`."""
        await self._client.aclose()

    async def _drop(self, image: str) -> int:
        key = entry_key(image)
        async with self._client.pipeline(transaction=True) as steps:
            steps.hlen(key)
            steps.delete(key)
            count, deleted = await steps.execute(raise_on_error=False)
        if isinstance(deleted, RedisError):
            raise deleted
        # anything but a hash is dropped, too, and counts as one
        return int(count) if isinstance(count, int) else int(deleted)

    @asynccontextmanager
    async def _asking(self, image: str) -> AsyncIterator[None]:
        """Bound an operation in time and note how it went; raises CacheError."""
        if not self._breaker.allows_call():
            raise CacheError("refused", "Redis did not answer just before")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except TimeoutError as error:
            self._breaker.failed()
            raise CacheError("timeout", "Redis did not answer in time") from error
        except ResponseError as error:
            if str(error).startswith(_WRONG_TYPE):
                # the server lives, but what lies there is not ours: remove it
                self._owed.add(image)
            raise CacheError("error", str(error)) from error
        except UNREACHABLE as error:
            self._breaker.failed()
            raise CacheError("error", f"{type(error).__name__}: {error}") from error
        self._breaker.succeeded()

"""Which of several gateways at one Triton does what need be done once only."""

import logging
from typing import Final, Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS: Final = 1.0
_PREFIX: Final = "aurum:watch"


class Lease(Protocol):
    """Gives turns, and hands on what came of them."""

    async def take(self, seconds: float) -> bool:
        """Whether the turn is ours; then nobody else's for so long."""
        ...

    async def tell(self, report: bytes, seconds: float) -> None:
        """Leave what came of it for the others, for so long."""
        ...

    async def told(self) -> bytes | None:
        """What another left."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class LocalLease:
    """`Lease` of one who shares nothing: each is ours."""

    async def take(self, seconds: float) -> bool:
        """See `Lease.take`."""
        return True

    async def tell(self, report: bytes, seconds: float) -> None:
        """See `Lease.tell`."""

    async def told(self) -> bytes | None:
        """See `Lease.told`."""
        return None

    async def close(self) -> None:
        """See `Lease.close`."""


class RedisLease:
    """`Lease` in the Redis that all gateways share. While it is away each turn is ours."""

    def __init__(self, url: str, name: str) -> None:
        self._client = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
        )
        self._turn = f"{_PREFIX}:turn:{name}"
        self._report = f"{_PREFIX}:report:{name}"

    async def take(self, seconds: float) -> bool:
        """See `Lease.take`."""
        try:
            return bool(await self._client.set(self._turn, 1, nx=True, px=_milliseconds(seconds)))
        except (RedisError, OSError) as error:
            log.debug("turns are not shared", extra={"reason": str(error)})
            return True

    async def tell(self, report: bytes, seconds: float) -> None:
        """See `Lease.tell`."""
        try:
            await self._client.set(self._report, report, px=_milliseconds(seconds))
        except (RedisError, OSError) as error:
            log.debug("report is not shared", extra={"reason": str(error)})

    async def told(self) -> bytes | None:
        """See `Lease.told`."""
        try:
            found = await self._client.get(self._report)
        except (RedisError, OSError) as error:
            log.debug("no report is shared", extra={"reason": str(error)})
            return None
        return found if isinstance(found, bytes) else None

    async def close(self) -> None:
        """See `Lease.close`."""
        await self._client.aclose()


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)

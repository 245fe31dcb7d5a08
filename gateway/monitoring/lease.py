"""Which of several gateways at one Triton does work that is needed only once."""

import logging
from typing import Final, Protocol

from gateway.redis import UNREACHABLE, connect
from gateway.tls import NO_FILES, TlsFiles

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS: Final = 1.0
_PREFIX: Final = "aurum:watch"


class Lease(Protocol):
    """Grants a lease to one gateway at a time, and passes its report on to the others."""

    async def take(self, seconds: float) -> bool:
        """Take the lease for `seconds`; False if another gateway holds it."""
        ...

    async def publish(self, report: bytes, seconds: float) -> None:
        """Leave a report for the other gateways, for `seconds`."""
        ...

    async def published(self) -> bytes | None:
        """Return the report that another gateway left; None if there is none."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class LocalLease:
    """`Lease` of a single gateway: always granted."""

    async def take(self, seconds: float) -> bool:
        """See `Lease.take`."""
        return True

    async def publish(self, report: bytes, seconds: float) -> None:
        """See `Lease.publish`."""

    async def published(self) -> bytes | None:
        """See `Lease.published`."""
        return None

    async def close(self) -> None:
        """See `Lease.close`."""


class RedisLease:
    """`Lease` in the Redis that all gateways share; always granted while Redis is away."""

    def __init__(self, url: str, name: str, *, files: TlsFiles = NO_FILES) -> None:
        """files: certificates, for `rediss://`."""
        self._client = connect(url, purpose="lease", timeout_seconds=_TIMEOUT_SECONDS, files=files)
        self._key = f"{_PREFIX}:turn:{name}"
        self._report = f"{_PREFIX}:report:{name}"

    async def take(self, seconds: float) -> bool:
        """See `Lease.take`."""
        try:
            return bool(await self._client.set(self._key, 1, nx=True, px=_milliseconds(seconds)))
        except UNREACHABLE as error:
            log.debug("the lease is not shared", extra={"reason": str(error)})
            return True

    async def publish(self, report: bytes, seconds: float) -> None:
        """See `Lease.publish`."""
        try:
            await self._client.set(self._report, report, px=_milliseconds(seconds))
        except UNREACHABLE as error:
            log.debug("report is not shared", extra={"reason": str(error)})

    async def published(self) -> bytes | None:
        """See `Lease.published`."""
        try:
            found = await self._client.get(self._report)
        except UNREACHABLE as error:
            log.debug("no report is shared", extra={"reason": str(error)})
            return None
        return found if isinstance(found, bytes) else None

    async def close(self) -> None:
        """See `Lease.close`."""
        await self._client.aclose()


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)

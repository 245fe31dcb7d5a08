"""Answers that take their time: they end when the client stalls, and when the service stops."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

from aiohttp import web

from gateway.api.context import REQUEST_ID_HEADER, context_of
from gateway.api.rate_limit import fields_of
from gateway.errors import AurumError, RateLimitedError

_MOST: Final = 256
"""Answers at a time: each reads the records over and over."""
_STALLED_SECONDS: Final = 30.0
"""A client that takes nothing for so long is given up."""
_RETRY_AFTER_SECONDS: Final = 10
log = logging.getLogger(__name__)


class StoppingError(AurumError):
    """The service is stopping."""

    code = "jobs_unavailable"


class _StalledError(Exception):
    """The client takes nothing."""


class Streams:
    """All answers that are being sent piece by piece, or that wait for something to happen."""

    def __init__(self, *, most: int = _MOST) -> None:
        """Allow `most` answers at a time."""
        self._most = most
        self._scopes: set[asyncio.Timeout] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._scopes)

    async def stop(self, _: web.Application) -> None:
        """End all of them at once: a service that stops does not wait for jobs."""
        self._stopping = True
        for scope in self._scopes:
            scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def until_stop(self) -> AsyncIterator[None]:
        """Interrupt the block with StoppingError when the service stops.

        Raises RateLimitedError if there are too many blocks.
        """
        if self._stopping:
            raise _stopping()
        if len(self._scopes) >= self._most:
            raise RateLimitedError(
                f"{self._most} answers are waiting for jobs already",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                try:
                    yield
                finally:
                    self._scopes.discard(scope)
        except TimeoutError:
            if not scope.expired():
                raise
            raise _stopping() from None

    async def send(
        self,
        request: web.Request,
        pieces: AsyncGenerator[bytes, None],
        *,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Send pieces as they come.

        What happens before the first piece is raised. After it the connection breaks off if the
        pieces fail, the client stalls or the service stops: a part must not look like the whole.
        """
        response = web.StreamResponse(headers=headers)
        # the middleware sets them too late
        response.headers[REQUEST_ID_HEADER] = context_of(request).request_id
        response.headers.update(fields_of(request))
        if request.method == "HEAD":
            return response
        try:
            async with self.until_stop(), aclosing(pieces):
                async for piece in pieces:
                    if not response.prepared:
                        await response.prepare(request)
                    await _in_time(response.write(piece))
                if not response.prepared:
                    await response.prepare(request)
                await _in_time(response.write_eof())
        except Exception as error:
            if not response.prepared:
                raise
            _break_off(request, error)
            raise ConnectionError("the rest of the answer is not sent") from None
        return response


STREAMS: Final = web.AppKey("streams", Streams)


def _stopping() -> StoppingError:
    return StoppingError("the service is stopping; ask again", retry_after_seconds=1)


async def _in_time(work: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(_STALLED_SECONDS):
            await work
    except TimeoutError:
        raise _StalledError from None


def _break_off(request: web.Request, error: Exception) -> None:
    more = {"request_id": context_of(request).request_id, "error": type(error).__name__}
    if isinstance(error, (AurumError, StoppingError, _StalledError, ConnectionError)):
        log.info("an answer broke off", extra=more)
    else:
        log.error("an answer broke off", exc_info=error, extra=more)
    if isinstance(error, _StalledError) and request.transport is not None:
        # closing would wait until the client takes what was written
        request.transport.abort()

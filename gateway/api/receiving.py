"""Receives the bodies of requests, with limits of size, time and memory.

The deadline of a request starts when its body is complete, so that a slow uplink does not use it
up; the body has limits of its own.
"""

import asyncio
import time
from types import TracebackType
from typing import Final, Self

from aiohttp import HttpVersion11, web

from gateway.api.chunks import Pieces
from gateway.api.context import context_of
from gateway.errors import (
    AurumError,
    ImageTooLargeError,
    InferenceUnavailableError,
    RequestTimeoutError,
)
from gateway.settings import Settings

_SHORTEST_WAIT_SECONDS: Final = 0.05
"""Enough to read bytes that have arrived already, however late this process is."""
_RETRY_AFTER_SECONDS: Final = 1
_UPLOAD_BYTES_PER_SECOND: Final = 125_000
"""A large upload has one more second for each of these: 1 Mbit/s is fast enough."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CONTINUED: Final = web.RequestKey("continued", bool)


class _StoppingError(Exception):
    """The service is stopping and reads nothing more."""


class Receiving:
    """All bodies that the application is receiving."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.held_bytes = 0
        self._most_bytes = settings.max_receiving_megabytes << 20
        self._bodies: set[IncomingBody] = set()

    def enter(self, body: "IncomingBody") -> None:
        """Register a body."""
        self._bodies.add(body)

    def hold(self, size: int) -> None:
        """Count received bytes; raises InferenceUnavailableError beyond the limit."""
        if self.held_bytes + size > self._most_bytes:
            raise InferenceUnavailableError(
                "too many request bodies are being received",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        self.held_bytes += size

    def release(self, size: int) -> None:
        """Count bytes that are no longer in memory."""
        self.held_bytes -= size

    def leave(self, body: "IncomingBody") -> None:
        """Remove a body and its bytes."""
        self._bodies.discard(body)
        self.release(body.held)

    async def stop(self, _: web.Application) -> None:
        """Refuse incomplete bodies: a server that stops does not read on."""
        for body in tuple(self._bodies):
            body.interrupt()


RECEIVING: Final = web.AppKey("receiving", Receiving)


class IncomingBody:
    """The bytes of a request's body, in pieces.

        async with IncomingBody(request, most=most, too_many=refusal) as pieces:
            async for piece in pieces: ...

    A body that exceeds a limit is refused as early as possible:
        ImageTooLargeError: more than `most` bytes were announced or arrived.
        RequestTimeoutError: it stalls, is too slow or takes too long as a whole.
        InferenceUnavailableError: too many bodies are being received, or the service is stopping.
        InvalidRequestError: as `Pieces`.
    When the last byte has arrived, the deadline of the request restarts.
    """

    def __init__(
        self, request: web.Request, *, most: int, too_many: str, is_upload: bool = False
    ) -> None:
        """Receive at most `most` bytes; `too_many` is the detail of the refusal.

        is_upload: the body may have gigabytes, so that the time for the whole of it grows with
        what has arrived; whoever reads it passes its bytes on and calls `hand_on`.
        """
        self.received = 0
        self.held = 0
        """Bytes that are still in memory."""
        self._is_upload = is_upload
        self._request = request
        self._pieces = Pieces(request)
        self._most = most
        self._too_many = too_many
        self._receiving = request.app[RECEIVING]
        self._started = self._returned = time.monotonic()

    async def __aenter__(self) -> Self:
        announced = self._request.content_length
        if announced is not None and announced > self._most:
            raise ImageTooLargeError(self._too_many)
        if awaits_continue(self._request):
            self._request[_CONTINUED] = True
            await self._request.writer.write(_CONTINUE)
            # like aiohttp's own handler: the head of the answer is not sent yet
            self._request.writer.output_size = 0
        self._started = self._returned = time.monotonic()
        self._receiving.enter(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._receiving.leave(self)
        if kind is not None:
            context_of(self._request).end_receiving()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_upload:
            # the time since the last piece is not the client's: images were being stored
            self._started += time.monotonic() - self._returned
        until, refusal = self._patience()
        wait = max(until - time.monotonic(), _SHORTEST_WAIT_SECONDS)
        try:
            async with asyncio.timeout(wait):
                piece = await anext(self._pieces, b"")
        except TimeoutError:
            raise self._give_up(RequestTimeoutError(refusal)) from None
        except _StoppingError:
            message = "the service is stopping; send the request again"
            stopping = InferenceUnavailableError(message, retry_after_seconds=_RETRY_AFTER_SECONDS)
            raise self._give_up(stopping) from None
        if not piece:
            context_of(self._request).start_work()
            raise StopAsyncIteration
        if self.received + len(piece) > self._most:
            raise ImageTooLargeError(self._too_many)
        self._receiving.hold(len(piece))
        self.received += len(piece)
        self.held += len(piece)
        until, refusal = self._patience()
        if until < time.monotonic():
            raise self._give_up(RequestTimeoutError(refusal))
        self._returned = time.monotonic()
        return piece

    async def read(self) -> bytes:
        """Read all of it."""
        body = bytearray()
        async for piece in self:
            body += piece
        return bytes(body)

    def hand_on(self, size: int) -> None:
        """Note that so many received bytes were stored or dropped."""
        size = min(size, self.held)
        self.held -= size
        self._receiving.release(size)

    def interrupt(self) -> None:
        """Wake the reader with a refusal, unless all bytes have arrived."""
        if not self._request.content.is_eof():
            self._request.content.set_exception(_StoppingError())

    def _patience(self) -> tuple[float, str]:
        """Return until when more must arrive, on the monotonic clock, and the refusal otherwise."""
        settings = self._receiving.settings
        idle, rate = settings.body_idle_seconds, settings.body_min_bytes_per_second
        total = settings.body_timeout_seconds
        if self._is_upload:
            total += self.received / _UPLOAD_BYTES_PER_SECOND
        return min(
            (time.monotonic() + idle, f"no bytes of the body arrived for {idle:g} s"),
            (
                self._started + idle + self.received / rate,
                f"the body arrives slower than {rate} bytes per second",
            ),
            (self._started + total, f"the body is not complete after {total:g} s"),
        )

    def _give_up(self, error: AurumError) -> AurumError:
        abandon(self._request)
        return error


def awaits_continue(request: web.Request) -> bool:
    """Whether the client waits for `100 Continue` before it sends its body."""
    return (
        request.version >= HttpVersion11
        and request.headers.get("Expect", "").strip().lower() == "100-continue"
        and request.body_exists
        and not request.get(_CONTINUED, False)
    )


async def expect(request: web.Request) -> None:
    """Handle `Expect` by doing nothing: `IncomingBody` asks for the body once it is wanted."""


def abandon(request: web.Request) -> None:
    """Stop reading the body: the connection closes directly after the answer."""
    request.content.feed_eof()
    request.protocol.close()

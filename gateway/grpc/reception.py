"""Receives messages, with limits of time and memory.

gRPC delivers a message as a whole, so nobody sees how fast it arrives: each one that is being
received has a place for the largest one, and a time in which that arrives at 1 Mbit/s.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import grpc

from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError, InvalidRequestError, RequestTimeoutError
from gateway.outbound.slots import FairSlots
from gateway.settings import Settings

_BYTES_PER_SECOND: Final = 125_000
_HEAD_ROOM_BYTES: Final = 64 * 1024
"""Room for the fields beside one image."""
_RETRY_AFTER_SECONDS: Final = 1


def most_message_bytes(settings: Settings) -> int:
    """Return the size of the largest message, the same as over HTTP."""
    return max(settings.max_tensor_bytes, settings.max_image_bytes + _HEAD_ROOM_BYTES)


class Reception:
    """The places for messages that are being received; half of them are for streams.

    A tenant gets three quarters of each half, so that calls which send nothing do not shut out the
    others.
    """

    def __init__(self, settings: Settings) -> None:
        most = most_message_bytes(settings)
        places = max(2, (settings.max_receiving_megabytes << 20) // most)
        seconds = settings.body_idle_seconds + most / _BYTES_PER_SECOND
        self._seconds = min(seconds, settings.body_timeout_seconds)
        self._idle_seconds = settings.body_timeout_seconds
        streams = places // 2
        self._places = FairSlots(total=places - streams, each=_share(places - streams))
        self._streams_left = streams
        self._streams_each = _share(streams)
        self._streams_of: Counter[str] = Counter()
        self._stopping = Interruption()

    def stop(self) -> None:
        """Refuse messages that have not arrived: a server that stops does not read on."""
        self._stopping.begin()

    async def only_message(
        self, context: grpc.aio.ServicerContext, tenant: str, wait: Deadline
    ) -> bytes:
        """Receive the message of a call that has one.

        tenant: of the caller. wait: until when a place must be free; until then the client is
        held back.

        Raises:
            InferenceUnavailableError: no place became free.
            RequestTimeoutError: the message did not arrive in time.
            InvalidRequestError: the call has none.

        """
        async with AsyncExitStack() as place:
            try:
                async with asyncio.timeout(wait.remaining_seconds()):
                    await place.enter_async_context(self._places.take(tenant))
            except TimeoutError as error:
                raise _busy() from error
            message = await self._stopping.read(context, self._seconds)
        if message is None:
            # gRPC itself answers one that is too large, and here it looks as if there were none
            raise InvalidRequestError("the call has no message that may be received")
        return message

    @asynccontextmanager
    async def stream(self, tenant: str) -> AsyncIterator["Stream"]:
        """Hold a place for the messages of a stream; raises InferenceUnavailableError."""
        if not self._streams_left or self._streams_of[tenant] >= self._streams_each:
            raise _busy()
        self._streams_left -= 1
        self._streams_of[tenant] += 1
        try:
            yield Stream(self._idle_seconds, self._stopping)
        finally:
            self._streams_left += 1
            self._streams_of[tenant] -= 1
            if not self._streams_of[tenant]:
                del self._streams_of[tenant]


class Stream:
    """The messages of a stream, one after the other."""

    def __init__(self, idle_seconds: float, stopping: "Interruption") -> None:
        self._idle_seconds = idle_seconds
        self._stopping = stopping

    async def next_message(self, context: grpc.aio.ServicerContext) -> bytes | None:
        """Receive a message; None at the end. Raises RequestTimeoutError if none comes in time."""
        return await self._stopping.read(context, self._idle_seconds)


class Interruption:
    """Ends all waiting for messages when the service stops."""

    def __init__(self) -> None:
        self._has_begun = False
        self._waiting: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Wake all who wait."""
        self._has_begun = True
        for scope in self._waiting:
            scope.reschedule(0)

    async def read(self, context: grpc.aio.ServicerContext, seconds: float) -> bytes | None:
        """Receive a message; None: there is none any more. Raises as `Reception.only_message`."""
        try:
            async with asyncio.timeout(0 if self._has_begun else seconds) as scope:
                self._waiting.add(scope)
                try:
                    message = await context.read()
                finally:
                    self._waiting.discard(scope)
        except TimeoutError as error:
            if self._has_begun:
                raise InferenceUnavailableError(
                    "the service is stopping; send the request again",
                    retry_after_seconds=_RETRY_AFTER_SECONDS,
                ) from error
            raise RequestTimeoutError(f"no whole message arrived within {seconds:g} s") from error
        return None if message is grpc.aio.EOF else bytes(message)


def _busy() -> InferenceUnavailableError:
    return InferenceUnavailableError(
        "too many messages are being received", retry_after_seconds=_RETRY_AFTER_SECONDS
    )


def _share(places: int) -> int:
    """Return how many of these one tenant gets."""
    return max(1, places * 3 // 4)

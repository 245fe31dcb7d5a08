"""How many requests may wait for inference, and where CPU work goes."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeVar

from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError, RequestTimeoutError

T = TypeVar("T")

_WEIGHT: Final = 0.05
"""Of the newest interval in the running mean: about the last twenty count."""
_LONGEST_RETRY_SECONDS: Final = 30


class AdmissionControl:
    """Admits requests that will be served soon, and rejects the others instead of queueing them.

    The expected wait follows from Little's law: the number of requests in flight times the mean
    interval between recent completions. Until that is measured, only `limit` counts.
    """

    def __init__(
        self,
        limit: int,
        *,
        max_wait_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Admit at most `limit` requests, none that would wait longer than `max_wait_seconds`."""
        self._limit = limit
        self._max_wait_seconds = max_wait_seconds
        self._clock = clock
        self._taken = 0
        self._last_out = math.nan
        self._seconds_each: float | None = None

    @property
    def taken(self) -> int:
        """How many are in."""
        return self._taken

    @property
    def expected_wait_seconds(self) -> float:
        """How long one more would wait; 0 while that is not known."""
        return self._taken * (self._seconds_each or 0.0)

    def check(self) -> None:
        """Raise InferenceUnavailableError if one more request would wait too long."""
        wait = self.expected_wait_seconds
        if self._taken >= self._limit or (self._taken and wait > self._max_wait_seconds):
            message = f"{self._taken} requests are waiting for inference already"
            raise InferenceUnavailableError(
                message, retry_after_seconds=min(max(1, math.ceil(wait)), _LONGEST_RETRY_SECONDS)
            )

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold one slot; raises as `check`."""
        self.check()
        if not self._taken:
            # what comes out next says nothing about the time before it came in
            self._last_out = self._clock()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._note_out()

    def _note_out(self) -> None:
        now = self._clock()
        seconds, self._last_out = now - self._last_out, now
        known = self._seconds_each
        self._seconds_each = seconds if known is None else known + _WEIGHT * (seconds - known)


class SlowGate:
    """Lets in few at a time of the requests that take as long as many others.

    They have an admission control of their own: their times would make all others seem to wait
    too long.
    """

    def __init__(self, slots: AdmissionControl, *, at_once: int) -> None:
        self._slots = slots
        self._running = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self, deadline: Deadline) -> AsyncIterator[None]:
        """Wait for a turn.

        Raises as `AdmissionControl.take`; RequestTimeoutError if no turn comes in time.
        """
        with self._slots.take():
            try:
                async with asyncio.timeout(deadline.remaining_seconds()):
                    await self._running.acquire()
            except TimeoutError as error:
                raise RequestTimeoutError("other slow requests took all the time") from error
            try:
                yield
            finally:
                self._running.release()


class CpuPool:
    """The bounded threads on which CPU work leaves the event loop."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aurum-cpu")

    async def run(self, work: Callable[[], T], *, deadline: Deadline) -> T:
        """Run `work` on a thread; raises RequestTimeoutError when the deadline passes first."""
        seconds = deadline.remaining_seconds()
        loop = asyncio.get_running_loop()
        try:
            # no name for the future: an error in it would hold its own traceback, and with that the
            # body of the request, until the garbage collector comes by
            async with asyncio.timeout(seconds):
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError as error:
            raise RequestTimeoutError("the deadline passed while waiting for a thread") from error

    def close(self) -> None:
        """Drop what has not started, wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

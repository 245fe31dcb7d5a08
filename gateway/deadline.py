"""Rank 1: how long a request may take, how many may wait, and where CPU work goes."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

from gateway.errors import InferenceUnavailableError, RequestTimeoutError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, on the monotonic clock, at which a request must be answered."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Count from now."""
        return cls(time.monotonic() + seconds)

    def remaining_seconds(self) -> float:
        """Seconds left; raises RequestTimeoutError when there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise RequestTimeoutError("the request took longer than its deadline allows")
        return left

    def allows(self, seconds: float) -> bool:
        """Whether that many seconds are left."""
        return self.at - time.monotonic() > seconds


class Slots:
    """At most so many at a time; one more is refused at once instead of queued."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many are in."""
        return self._taken

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold one slot; raises InferenceUnavailableError if all are taken."""
        if self._taken >= self._limit:
            message = f"{self._limit} requests are waiting for inference already"
            raise InferenceUnavailableError(message, retry_after_seconds=1)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Workers:
    """The bounded threads on which CPU work leaves the event loop."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aurum-cpu")

    async def run(self, work: Callable[[], T], *, deadline: Deadline) -> T:
        """Run `work` on a thread; raises RequestTimeoutError when the deadline passes first."""
        seconds = deadline.remaining_seconds()
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._pool, work), seconds)
        except TimeoutError as error:
            raise RequestTimeoutError("the deadline passed while waiting for a thread") from error

    def close(self) -> None:
        """Drop what has not started, wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

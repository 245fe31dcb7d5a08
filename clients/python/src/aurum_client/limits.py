"""Time limits of a call."""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx

from aurum_client.errors import TimeLimitError

NO_LIMIT_SECONDS = 7 * 86400.0
"""Stands for no limit: an infinite timeout is an error for some functions that wait."""


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that a call may take."""

    connect: float = 5.0
    """To make a connection."""
    read: float = 60.0
    """To wait for the next bytes of an answer, or for room to send the next ones."""
    total: float = 60.0
    """The whole call, with all its retries and the pauses between them."""

    def __post_init__(self) -> None:
        if min(self.connect, self.read, self.total) <= 0:
            raise ValueError("time limits are positive")


@dataclass(frozen=True)
class Deadline:
    """The moment, on the monotonic clock, at which a call must be over."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Count from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds left; raises TimeLimitError if there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeLimitError("total")
        return left

    def left(self) -> float:
        """Seconds left; 0 if there are none."""
        return max(0.0, self.at - time.monotonic())

    def capped(self, seconds: float) -> Deadline:
        """Return a deadline that is at most so many seconds away."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def allows(self, seconds: float) -> bool:
        """Whether more than `seconds` are left."""
        return self.at - time.monotonic() > seconds

    def timeout(self, limits: TimeLimits) -> httpx.Timeout:
        """Limit each step of an attempt, none beyond the deadline; raises TimeLimitError."""
        left = self.remaining()
        step = min(limits.read, left)
        return httpx.Timeout(connect=min(limits.connect, left), read=step, write=step, pool=left)

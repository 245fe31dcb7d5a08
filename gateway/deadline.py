"""The deadline of a request."""

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Self

from gateway.errors import RequestTimeoutError

_LEAST_SECONDS: Final = 1.0
_CURRENT: Final[ContextVar["Deadline | None"]] = ContextVar("deadline", default=None)


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

    def part(self, share: float) -> "Deadline":
        """Return a deadline after a share of the remaining time, 0 to 1."""
        now = time.monotonic()
        return Deadline(now + (self.at - now) * share)

    def make_current(self) -> None:
        """Let the calls of this task find it with `seconds_allowed`."""
        _CURRENT.set(self)

    def allows(self, seconds: float) -> bool:
        """Whether more than `seconds` are left."""
        return self.at - time.monotonic() > seconds


def seconds_allowed(most: float) -> float | None:
    """Seconds that one call of the current request may take; None outside of a request.

    What is left of the request's time, at most `most` and at least a second: what a request has
    begun is recorded also where its deadline has just passed.
    """
    current = _CURRENT.get()
    if current is None:
        return None
    return min(most, max(current.at - time.monotonic(), _LEAST_SECONDS))


def extend_current(seconds: float) -> None:
    """Give the calls of the current request until so long from now; nothing outside of one."""
    if _CURRENT.get() is not None:
        Deadline.after(seconds).make_current()


def forget_current() -> None:
    """Forget the deadline of the request that started this task: it outlives the request."""
    _CURRENT.set(None)

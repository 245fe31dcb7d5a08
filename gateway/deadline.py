"""The deadline of a request."""

import time
from dataclasses import dataclass
from typing import Self

from gateway.errors import RequestTimeoutError


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

    def allows(self, seconds: float) -> bool:
        """Whether more than `seconds` are left."""
        return self.at - time.monotonic() > seconds

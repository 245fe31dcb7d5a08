"""The arithmetic of rates: GCRA as a leaky bucket that counts up.

The generic cell rate algorithm (ITU-T I.371, annex A) has two equal forms. This one keeps a debt:
each unit adds to it, time pays it back, and a unit is admitted if the debt stays within the
capacity. All numbers are integers, so that Python and Lua get the same results without rounding.

A tick is a unit a minute for a microsecond: a unit costs `TICKS`, and a rate of `r` units a minute
pays back `r` ticks each microsecond.
"""

from dataclasses import dataclass
from typing import Final

TICKS: Final = 60_000_000
"""Ticks of one unit; microseconds of a minute."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit: `rate` units a minute, `capacity` units at once."""

    rate: int
    capacity: int

    @property
    def most(self) -> int:
        """Largest debt that admits something, in ticks."""
        return self.capacity * TICKS

    def drain(self, debt: int, microseconds: int) -> int:
        """Return a debt after some time; a clock that went back changes nothing."""
        return max(0, debt - max(0, microseconds) * self.rate)

    def admits(self, debt: int, units: int) -> bool:
        """Whether so many units fit beside a debt."""
        return debt + units * TICKS <= self.most

    def available(self, debt: int) -> int:
        """Return how many whole units fit beside a debt."""
        return max(0, (self.most - debt) // TICKS)

    def wait_microseconds(self, debt: int, units: int) -> int:
        """Return the time until so many units fit beside a debt."""
        return self.microseconds_to(debt, self.most - units * TICKS)

    def microseconds_to(self, debt: int, goal: int) -> int:
        """Return the time until a debt has shrunk to `goal` ticks."""
        return max(0, -((goal - debt) // self.rate))

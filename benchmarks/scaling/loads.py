"""What callers send: rates over time, and arrivals drawn from them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

DAY_SECONDS: Final = 7200.0
"""A day is played twelve times as fast: what holds here holds more easily in a real day."""


@dataclass(frozen=True, slots=True)
class Load:
    """A rate of requests over time.

    rate: requests a second at a time in seconds. most: what it never exceeds. seconds: its length.
    """

    name: str
    rate: Callable[[float], float]
    most: float
    seconds: float

    def arrivals(self, random: Random) -> Iterator[float]:
        """Draw the times of independent callers (a Poisson process, by thinning)."""
        at = 0.0
        while (at := at + random.expovariate(self.most)) < self.seconds:
            if random.random() * self.most < self.rate(at):
                yield at


def steady(rate: float, seconds: float) -> Load:
    """Return the same rate all the time."""
    return Load("steady", lambda _: rate, rate, seconds)


def daily(most: float, seconds: float = DAY_SECONDS) -> Load:
    """Return a day: a fifth of `most` at night, one hump with its top in the afternoon."""

    def rate(at: float) -> float:
        hump = (1 - math.cos(2 * math.pi * at / seconds)) / 2
        return most * (0.2 + 0.8 * math.pow(hump, 1.5))

    return Load("day", rate, most, seconds)


def spike(low: float, high: float) -> Load:
    """Return `low`, five minutes of `high` from one second to the next, and `low` again."""
    return Load("spike", lambda at: high if 600 <= at < 900 else low, high, 1800.0)


def flash_crowd(low: float, high: float) -> Load:
    """Return `low`, a minute's rise to `high`, and a decay by half every five minutes."""

    def rate(at: float) -> float:
        if at < 600:
            return low
        if at < 660:
            return low + (high - low) * (at - 600) / 60
        return low + (high - low) * math.pow(0.5, (at - 660) / 300)

    return Load("flash crowd", rate, high, 2400.0)

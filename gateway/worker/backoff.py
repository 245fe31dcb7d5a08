"""Pauses between attempts: doubled each time, and never the same for two workers."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_LARGEST_EXPONENT: Final = 32
"""Beyond it every pause is the longest one."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Exponential backoff with jitter, in seconds.

    The pause before attempt n is drawn from the upper half of `first` * 2^n, at most `longest`.
    """

    first: float
    longest: float
    draw: Callable[[], float] = random.random
    """Returns 0 to 1."""

    def of(self, attempt: int) -> float:
        """Return the pause after `attempt` attempts, from 0."""
        full = min(self.first * 2.0 ** min(attempt, _LARGEST_EXPONENT), self.longest)
        return full * (0.5 + self.draw() / 2)


class Backoff:
    """A row of pauses that grow until it is reset."""

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._attempt = 0

    def next(self) -> float:
        """Return the next pause."""
        pause = self._pauses.of(self._attempt)
        self._attempt += 1
        return pause

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._attempt = 0

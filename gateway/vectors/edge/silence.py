"""Measures for how long a process that answers in order has left questions unanswered."""

import time
from collections.abc import Callable


class Silence:
    """Counts questions and answers of one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open = 0
        self._since = clock()

    def asked(self) -> None:
        """Note a question."""
        if not self._open:
            self._since = self._clock()
        self._open += 1

    def answered(self) -> None:
        """Note an answer, also to a question whose caller has given up."""
        self._open = max(self._open - 1, 0)
        self._since = self._clock()

    @property
    def seconds(self) -> float:
        """Time since the last sign of life; 0 while nothing is unanswered."""
        return self._clock() - self._since if self._open else 0.0

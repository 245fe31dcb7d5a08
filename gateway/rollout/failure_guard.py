"""When a candidate counts as broken; only failures where the active version answers count."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_IN_A_ROW: Final = 3
_WITHIN: Final = 50
_ALL_IN_ALL: Final = 5
"""Failures among the last `_WITHIN` answers."""
_AWAY_SECONDS: Final = 5.0
"""How long a candidate may be unavailable although Triton lists it: it may be loading."""


class FailureGuard:
    """Counts answers and failures of one candidate."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: deque[bool] = deque(maxlen=_WITHIN)
        self._row = 0
        self._away_since: float | None = None

    def answered(self) -> None:
        """Note an answer."""
        self._last.append(False)
        self._row = 0
        self._away_since = None

    def failed(self, *, away: bool) -> str:
        """Note a failure; returns why the candidate is to be stopped, empty if it is not.

        away: it could not be asked.
        """
        if away:
            if self._away_since is None:
                self._away_since = self._clock()
            seconds = self._clock() - self._away_since
            return f"not there for {seconds:.0f} s" if seconds >= _AWAY_SECONDS else ""
        self._last.append(True)
        self._row += 1
        if self._row >= _IN_A_ROW:
            return f"{self._row} failures in a row"
        failures = sum(self._last)
        if failures >= _ALL_IN_ALL:
            return f"{failures} failures in {len(self._last)} answers"
        return ""

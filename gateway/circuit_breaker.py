"""The circuit breaker in front of every upstream that may be away for a while."""

import math
import time
from collections.abc import Callable
from typing import Final

_FAILURES: Final = 3

StateObserver = Callable[[bool], None]
"""Called with whether the circuit is open, whenever that changes."""


class CircuitBreaker:
    """Refuses calls to an upstream that failed several times in a row.

    Closed: every call passes. Open: none does, until `retry_seconds` after the last failure or
    probe. Then it is half open: one call passes as a probe. If it succeeds the circuit closes; if
    it fails, or never reports, the next probe passes after another `retry_seconds`.
    """

    def __init__(
        self,
        *,
        failures: int = _FAILURES,
        retry_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        observer: StateObserver = lambda _: None,
    ) -> None:
        """Open after so many failures in a row.

        retry_seconds: infinite where the owner probes in the background, so that no request pays
        for a probe; then only `succeeded` closes the circuit.
        """
        self._most_failures = failures
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._observer = observer
        self._failures = 0
        self._last_try = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, probes apart."""
        return self._failures >= self._most_failures

    def allows_call(self) -> bool:
        """Whether a call may be made now; an allowed call of an open circuit is its probe."""
        if not self.is_open:
            return True
        now = self._clock()
        if now - self._last_try < self._retry_seconds:
            return False
        self._last_try = now
        return True

    def succeeded(self) -> None:
        """Note that the upstream answered."""
        self._set_failures(0)

    def failed(self) -> None:
        """Note that the upstream did not answer."""
        self._last_try = self._clock()
        self._set_failures(self._failures + 1)

    def _set_failures(self, failures: int) -> None:
        was_open = self.is_open
        self._failures = failures
        if self.is_open != was_open:
            self._observer(self.is_open)

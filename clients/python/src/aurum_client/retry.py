"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Optional

from aurum_client.errors import (
    AurumError,
    EnrolmentRefusedError,
    ProblemError,
    ServiceUnreachableError,
    TimeLimitError,
    UnexpectedAnswerError,
)
from aurum_client.request import Request

_TOO_MANY = 429
_UNAVAILABLE = (502, 503)
"""502 comes from proxies that cannot reach the service."""
_CONFLICT = 409
_LATER = (429, 502, 503, 504)


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is sent, and how long the pauses are."""

    attempts: int = 4
    """Most times that a request is sent; 1 never retries."""
    first_pause: float = 0.25
    """Seconds before the second attempt; each further pause is twice as long."""
    longest_pause: float = 8.0
    """Seconds; a `Retry-After` of the service may be longer."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("a request is sent at least once")

    def pause(self, attempt: int, error: AurumError) -> float:
        """Seconds to wait after a failed attempt, counted from 1: the backoff, half of it random.

        After a `Retry-After` at least as long, plus a random part, so that not all callers
        return in the same moment.
        """
        backoff = min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1))
        # jitter needs no secrecy
        jittered = backoff * random.uniform(0.5, 1.0)
        retry_after = _retry_after(error)
        if retry_after is None:
            return jittered
        return max(retry_after, jittered) + self.first_pause * random.random()


class Outage:
    """Pauses between attempts while the service is away, for a limited time."""

    def __init__(self, policy: RetryPolicy, seconds: float) -> None:
        self._policy = policy
        self._seconds = seconds
        self._since: Optional[float] = None
        self._failures = 0

    def pause(self, error: AurumError) -> float:
        """Return the seconds to wait; raises the error if waiting does not help, or any more."""
        if not _is_temporary(error):
            raise error
        now = time.monotonic()
        if self._since is None:
            self._since, self._failures = now, 0
        if now - self._since >= self._seconds:
            raise error
        self._failures += 1
        return self._policy.pause(self._failures, error)

    def end(self) -> None:
        """Note that the service has answered."""
        self._since = None


def _is_temporary(error: AurumError) -> bool:
    if isinstance(error, (ServiceUnreachableError, TimeLimitError)):
        return True
    return isinstance(error, (ProblemError, UnexpectedAnswerError)) and error.status in _LATER


def may_repeat(request: Request[object], error: AurumError) -> bool:
    """Whether sending the request again cannot do harm, and may help.

    Requests that change something without an `Idempotency-Key` are repeated only if the service
    certainly did not act on them.
    """
    if request.sent_once:
        return False
    if isinstance(error, ServiceUnreachableError):
        return request.repeatable or not error.sent
    if not isinstance(error, (ProblemError, UnexpectedAnswerError)):
        return False
    if error.status == _TOO_MANY:
        return True
    if error.status in _UNAVAILABLE:
        return request.repeatable
    # the first request with this key is still running
    return (
        error.status == _CONFLICT
        and request.idempotency_key is not None
        and error.retry_after is not None
        and not isinstance(error, EnrolmentRefusedError)
    )


def _retry_after(error: AurumError) -> Optional[float]:
    if isinstance(error, (ProblemError, UnexpectedAnswerError)):
        return error.retry_after
    return None

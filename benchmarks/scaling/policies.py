"""How many replicas are wanted: rules of Kubernetes' HorizontalPodAutoscaler, and what feeds them.

The rules are those of the autoscaler's documentation (autoscaling/v2, default behaviour): looked at
every 15 seconds; nothing happens within 10 % of the target; per 15 seconds at most 4 replicas or
100 % more, whichever is more; the highest wish of the last 300 seconds counts for fewer.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

SYNC_SECONDS: Final = 15.0
TOLERANCE: Final = 0.1
STABLE_DOWN_SECONDS: Final = 300.0
UP_REPLICAS: Final = 4
UP_FACTOR: Final = 2.0
LEAST: Final = 2
MOST: Final = 100

CPU_TARGET: Final = 0.6
"""Share of the processor time that each replica should use."""
ANSWER_TARGET_SECONDS: Final = 0.045
"""Mean time of an answer in the gateway, waiting included, that should not be exceeded."""
ANSWER_MOST_TIMES: Final = 4.0
"""A full queue takes 55 times the target, but not 55 times as many replicas."""
FORECAST_MOST_TIMES: Final = 1.5
"""Beside a forecast: it only corrects a capacity that is lower than was measured."""
_TREND_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy sees, of the last 15 seconds.

    ready, starting: replicas now. cpu: mean share of the ready ones' processor time. answer:
    mean seconds of an answer, `aurum_http_request_seconds` in Prometheus; 0 without any. rate:
    requests a second, the refused ones included.
    """

    at: float
    ready: int
    starting: int
    cpu: float
    answer: float
    rate: float


class Policy(Protocol):
    """Wishes for a number of replicas."""

    def wants(self, seen: Seen) -> int:
        """Return the number that is wanted, whatever the limits are."""
        ...


class Fixed:
    """Keeps what is there."""

    def wants(self, seen: Seen) -> int:
        """See `Policy`."""
        return seen.ready + seen.starting


class Cpu:
    """The usual autoscaler on processor time."""

    def wants(self, seen: Seen) -> int:
        """See `Policy`; replicas that are starting count as idle if more are wanted."""
        total, ratio = seen.ready + seen.starting, seen.cpu / CPU_TARGET
        if abs(ratio - 1) <= TOLERANCE:
            return total
        if ratio < 1:
            return math.ceil(seen.ready * ratio)
        ratio *= seen.ready / total
        return total if ratio <= 1 + TOLERANCE else math.ceil(total * ratio)


class AnswerTime:
    """KEDA on the mean time of an answer, which grows with the queue.

    KEDA gives it to the autoscaler as a `Value`: wanted is the number now times metric over target.
    """

    def __init__(self, most_times: float = ANSWER_MOST_TIMES) -> None:
        """most_times: what the metric is cut off at, in targets (`clamp_max` in Prometheus)."""
        self._most_times = most_times

    def wants(self, seen: Seen) -> int:
        """See `Policy`; the autoscaler multiplies the number of ready replicas."""
        ratio = min(seen.answer / ANSWER_TARGET_SECONDS, self._most_times)
        if abs(ratio - 1) <= TOLERANCE:
            return seen.ready + seen.starting
        return math.ceil(seen.ready * ratio)


class Forecast:
    """Enough replicas for the rate that a linear trend of two minutes predicts, and `AnswerTime`.

    In Prometheus: `predict_linear` over the rate, refused requests included, and the time of an
    answer cut off low, as the rate already says how many are needed. Both are triggers of one KEDA
    object, of which the largest wish counts.
    """

    def __init__(self, *, capacity: float, ahead_seconds: float) -> None:
        """capacity: answers a second of one replica. ahead_seconds: how far to look ahead."""
        self._now = AnswerTime(most_times=FORECAST_MOST_TIMES)
        self._capacity = capacity
        self._ahead_seconds = ahead_seconds
        self._rates: deque[tuple[float, float]] = deque()

    def wants(self, seen: Seen) -> int:
        """See `Policy`."""
        self._rates.append((seen.at, seen.rate))
        while self._rates[0][0] < seen.at - _TREND_SECONDS:
            self._rates.popleft()
        expected = max(self.expected_rate(seen.at + self._ahead_seconds), seen.rate)
        ahead = math.ceil(expected / (self._capacity * CPU_TARGET))
        return max(self._now.wants(seen), ahead)

    def expected_rate(self, at: float) -> float:
        """Continue the line through the last rates, by least squares."""
        count = len(self._rates)
        middle = sum(time for time, _ in self._rates) / count
        level = sum(rate for _, rate in self._rates) / count
        spread = sum((time - middle) ** 2 for time, _ in self._rates)
        if spread == 0:
            return level
        slope = sum((time - middle) * (rate - level) for time, rate in self._rates) / spread
        return max(0.0, level + slope * (at - middle))


@dataclass(slots=True)
class Autoscaler:
    """Bounds the wishes of a policy as Kubernetes does."""

    policy: Policy
    least: int = LEAST
    most: int = MOST
    _wishes: deque[tuple[float, int]] = field(default_factory=deque, init=False)

    def replicas(self, seen: Seen) -> int:
        """Return the number of replicas from now on, starting ones included."""
        total = seen.ready + seen.starting
        wish = self.policy.wants(seen)
        self._wishes.append((seen.at, wish))
        while self._wishes[0][0] < seen.at - STABLE_DOWN_SECONDS:
            self._wishes.popleft()
        if wish < total:
            wish = min(total, max(each for _, each in self._wishes))
        fastest = max(total + UP_REPLICAS, math.ceil(total * UP_FACTOR))
        return max(self.least, min(wish, fastest, self.most))

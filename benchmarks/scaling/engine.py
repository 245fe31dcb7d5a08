"""The simulated world: a clock, replicas, a balancer, and stores that all replicas share.

Replicas refuse with the gateway's own `AdmissionControl`, which runs on the simulated clock.
"""

import heapq
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

from benchmarks.scaling.samples import SERVERS
from gateway.concurrency import AdmissionControl
from gateway.errors import InferenceUnavailableError

MAX_IN_FLIGHT: Final = 256
"""Default of `AURUM_MAX_IN_FLIGHT`."""
MAX_WAIT_SECONDS: Final = 2.5
"""Default of `AURUM_MAX_WAIT_SECONDS`: a quarter of the deadline."""
_TRIES: Final = 2
"""`proxy_next_upstream_tries` of deploy/nginx/aurum.conf, for routes that change nothing."""

Draw = Callable[[], float]
"""Draws a service time in seconds."""
Done = Callable[[bool], None]
"""Called at the end of a request: whether it was answered rather than refused."""
Balancing = Literal["round_robin", "least_conn"]


class Clock:
    """Events in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def at(self, time: float, call: Callable[..., None], *args: Any) -> None:
        """Call `call` with `args` at a time in seconds; those of one time in order."""
        self._number += 1
        heapq.heappush(self._events, (time, self._number, call, args))

    def run(self, until: float) -> None:
        """Let everything happen that happens before `until`."""
        while self._events and self._events[0][0] < until:
            self.now, _, call, args = heapq.heappop(self._events)
            call(*args)
        self.now = max(self.now, until)


class Replica:
    """A gateway with its Triton: works on some requests at once, and queues or refuses others."""

    def __init__(
        self,
        clock: Clock,
        draw: Draw,
        *,
        servers: int = SERVERS,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._servers = servers
        self._admission = AdmissionControl(
            max_in_flight, max_wait_seconds=max_wait_seconds, clock=lambda: clock.now
        )
        self._waiting: deque[tuple[AbstractContextManager[None], Done]] = deque()
        self._working = 0
        self.busy_seconds = 0.0
        """Processor seconds of all requests that were begun, to their ends."""

    @property
    def taken(self) -> int:
        """Requests that wait or are worked on."""
        return self._admission.taken

    def submit(self, done: Done) -> bool:
        """Take a request, and call `done` once it is answered; false if it is refused."""
        slot = self._admission.take()
        try:
            slot.__enter__()
        except InferenceUnavailableError:
            return False
        if self._working < self._servers:
            self._begin(slot, done)
        else:
            self._waiting.append((slot, done))
        return True

    def _begin(self, slot: AbstractContextManager[None], done: Done) -> None:
        self._working += 1
        seconds = self._draw()
        self.busy_seconds += seconds
        self._clock.at(self._clock.now + seconds, self._end, slot, done)

    def _end(self, slot: AbstractContextManager[None], done: Done) -> None:
        self._working -= 1
        slot.__exit__(None, None, None)
        if self._waiting:
            self._begin(*self._waiting.popleft())
        done(True)


class Balancer:
    """nginx in front of the replicas: a refused request is given to one other replica."""

    def __init__(self, kind: Balancing, random: Random) -> None:
        self._kind = kind
        self._random = random
        self._next = 0
        self.replicas: list[Replica] = []

    def send(self, done: Done) -> None:
        """Give a request to a replica; `done` is called at once if all that are tried refuse it."""
        tried: list[Replica] = []
        while len(tried) < min(_TRIES, len(self.replicas)):
            replica = self._choose(tried)
            if replica.submit(done):
                return
            tried.append(replica)
        done(False)

    def _choose(self, tried: Sequence[Replica]) -> Replica:
        if self._kind == "least_conn":
            left = [each for each in self.replicas if each not in tried]
            fewest = min(each.taken for each in left)
            return self._random.choice([each for each in left if each.taken == fewest])
        self._next = (self._next + 1) % len(self.replicas)
        if self.replicas[self._next] in tried:
            self._next = (self._next + 1) % len(self.replicas)
        return self.replicas[self._next]


class Station:
    """A store that does one thing at a time, each in the same time, for all replicas."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._free_at = 0.0

    def through(self, seconds: float | None = None) -> float:
        """Return the time at which work that arrives now is done."""
        took = self._seconds if seconds is None else seconds
        self._free_at = max(self._clock.now, self._free_at) + took
        return self._free_at


class AuditLog:
    """Lines of one gateway: all that wait are written together, under the lock of the chain.

    As `gateway.records.audit` does it: the batch is made before the lock is waited for.
    """

    def __init__(
        self, clock: Clock, chain: Station, *, transaction: float, line: float, at_once: int = 256
    ) -> None:
        """transaction, line: seconds under the lock, for a transaction and each of its lines."""
        self._clock = clock
        self._chain = chain
        self._transaction = transaction
        self._line = line
        self._at_once = at_once
        self._waiting: list[Callable[[], None]] = []
        self._is_writing = False

    def add(self, written: Callable[[], None]) -> None:
        """Write a line; `written` is called when it is durable."""
        self._waiting.append(written)
        if not self._is_writing:
            self._write()

    def _write(self) -> None:
        self._is_writing = bool(self._waiting)
        if not self._is_writing:
            return
        batch, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
        seconds = self._transaction + self._line * len(batch)
        self._clock.at(self._chain.through(seconds), self._written, batch)

    def _written(self, batch: Sequence[Callable[[], None]]) -> None:
        for call in batch:
            call()
        self._write()


@dataclass(slots=True)
class Answers:
    """What callers saw; seconds: latency of each answered request."""

    seconds: "array[float]" = field(default_factory=lambda: array("d"))
    refused: int = 0

    def note(self, seconds: float, is_answered: bool) -> None:
        """Add one request."""
        if is_answered:
            self.seconds.append(seconds)
        else:
            self.refused += 1

    @property
    def refused_share(self) -> float:
        """Share of all requests that was refused with 503; 0 if there were none."""
        total = len(self.seconds) + self.refused
        return self.refused / total if total else 0.0

"""Runs of the simulation: a fixed number of replicas, an autoscaled one, and all of them busy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from benchmarks.scaling.engine import (
    Answers,
    AuditLog,
    Balancer,
    Balancing,
    Clock,
    Draw,
    Replica,
    Station,
)
from benchmarks.scaling.loads import Load
from benchmarks.scaling.policies import LEAST, SYNC_SECONDS, Autoscaler, Seen
from benchmarks.scaling.samples import SERVERS, Samples

CALLERS: Final = 64
"""Callers of each replica in a run that asks for the most answers."""
_DRAIN_SECONDS: Final = 30.0
"""How long a run goes on after the last arrival, until its answers are there."""

Row = tuple[float, float, int, int]
"""Time, requests a second since the row before, replicas that are ready, that are starting."""


@dataclass(slots=True)
class Outcome:
    """What a run showed; replica_seconds: paid ones, from their order to their end."""

    answers: Answers = field(default_factory=Answers)
    replica_seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)


def drawing(service: tuple[float, ...], random: Random) -> Draw:
    """Draw from measured service times."""
    return lambda: random.choice(service)


class _Fleet:
    """Replicas that are ordered, become ready, are drained and end."""

    def __init__(self, clock: Clock, draw: Draw, balancing: Balancing, random: Random) -> None:
        self._clock = clock
        self._draw = draw
        self._leaving: list[Replica] = []
        self.balancer = Balancer(balancing, random)
        self.starting = 0
        self._unwanted = 0

    @property
    def paid(self) -> int:
        """Replicas that cost something."""
        self._leaving = [each for each in self._leaving if each.taken]
        return len(self.balancer.replicas) + self.starting + len(self._leaving)

    def begin(self, count: int) -> None:
        """Have replicas that are ready."""
        self.balancer.replicas = [Replica(self._clock, self._draw) for _ in range(count)]

    def resize(self, count: int, start_seconds: float) -> None:
        """Order replicas, or drain some: those that are starting first, then the youngest."""
        ready = self.balancer.replicas
        more = count - len(ready) - self.starting
        for _ in range(more):
            self.starting += 1
            self._clock.at(self._clock.now + start_seconds, self._ready)
        cancelled = min(self.starting, max(0, -more))
        self.starting -= cancelled
        self._unwanted += cancelled
        while len(ready) + self.starting > count:
            self._leaving.append(ready.pop())

    def _ready(self) -> None:
        if self._unwanted:
            self._unwanted -= 1
            return
        self.starting -= 1
        self.balancer.replicas.append(Replica(self._clock, self._draw))

    def cpu(self, seconds: float) -> float:
        """Return the mean share of processor time of the ready ones since the last call."""
        busy = sum(each.busy_seconds for each in self.balancer.replicas)
        for each in self.balancer.replicas:
            each.busy_seconds = 0.0
        return busy / (SERVERS * seconds * max(1, len(self.balancer.replicas)))


def offered(
    load: Load,
    service: tuple[float, ...],
    *,
    replicas: int = LEAST,
    scaler: Autoscaler | None = None,
    start_seconds: float = 0.0,
    balancing: Balancing = "round_robin",
    seed: int = 1,
) -> Outcome:
    """Send a load to a number of replicas, which an autoscaler may change.

    start_seconds: from the order of a replica until it answers.
    """
    clock, random = Clock(), Random(seed)
    fleet = _Fleet(clock, drawing(service, random), balancing, random)
    fleet.begin(replicas)
    outcome = Outcome()
    arrivals = load.arrivals(Random(seed + 1))
    recent = _Recent()
    balancer = fleet.balancer

    def arrive() -> None:
        _next_arrival(clock, arrivals, arrive)
        began = clock.now
        recent.arrived += 1

        def done(is_answered: bool) -> None:
            seconds = clock.now - began
            outcome.answers.note(seconds, is_answered)
            if is_answered:
                recent.answered += 1
                recent.answer_seconds += seconds

        balancer.send(done)

    def look() -> None:
        ready, starting = len(balancer.replicas), fleet.starting
        seen = recent.seen(clock.now, ready, starting, fleet.cpu(SYNC_SECONDS))
        outcome.replica_seconds += fleet.paid * SYNC_SECONDS
        outcome.rows.append((clock.now, seen.rate, ready, starting))
        if scaler is not None:
            fleet.resize(scaler.replicas(seen), start_seconds)
        clock.at(clock.now + SYNC_SECONDS, look)

    clock.at(SYNC_SECONDS, look)
    _next_arrival(clock, arrivals, arrive)
    clock.run(load.seconds + _DRAIN_SECONDS)
    return outcome


@dataclass(slots=True)
class _Recent:
    """Counts since the policy looked the last time."""

    arrived: int = 0
    answered: int = 0
    answer_seconds: float = 0.0

    def seen(self, at: float, ready: int, starting: int, cpu: float) -> Seen:
        mean = self.answer_seconds / self.answered if self.answered else 0.0
        found = Seen(at, ready, starting, cpu, mean, self.arrived / SYNC_SECONDS)
        self.arrived = self.answered = 0
        self.answer_seconds = 0.0
        return found


def _next_arrival(clock: Clock, arrivals: Iterator[float], arrive: Callable[[], None]) -> None:
    at = next(arrivals, None)
    if at is not None:
        clock.at(at, arrive)


@dataclass(frozen=True, slots=True)
class Shared:
    """Stores that all replicas share, in seconds of their time for each request.

    redis: of one server. vectors: of a Qdrant, 0 where it is not asked. audit: whether each request
    appends a line to the audit log, as a search does.
    """

    redis: float = 0.0
    vectors: float = 0.0
    audit: bool = False


def most(
    replicas: int,
    samples: Samples,
    shared: Shared,
    *,
    callers: int = CALLERS,
    seconds: float = 10.0,
    seed: int = 1,
) -> float:
    """Return answers a second when `callers` of each replica do not pause.

    The first fifth of `seconds` does not count.
    """
    clock, random = Clock(), Random(seed)
    draw = drawing(samples.service, random)
    redis, vectors = Station(clock, shared.redis), Station(clock, shared.vectors)
    chain = Station(clock, 0.0)
    counted = [0]
    warm = seconds / 5

    def caller(replica: Replica, audit: AuditLog) -> None:
        def ask() -> None:
            clock.at(redis.through(), infer)

        def infer() -> None:
            if not replica.submit(lambda _: clock.at(vectors.through(), searched)):
                raise RuntimeError("so few callers are never refused")

        def searched() -> None:
            if shared.audit:
                audit.add(answered)
            else:
                answered()

        def answered() -> None:
            counted[0] += clock.now >= warm
            ask()

        clock.at(random.random() * 0.1, ask)

    for _ in range(replicas):
        replica = Replica(clock, draw, max_wait_seconds=float("inf"))
        transaction = samples.audit_transaction + samples.flush
        audit = AuditLog(clock, chain, transaction=transaction, line=samples.audit_line)
        for _ in range(callers):
            caller(replica, audit)
    clock.run(seconds)
    return counted[0] / (seconds - warm)

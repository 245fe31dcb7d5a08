"""The simulated queue against formulas and a measured run."""

import json
import math
from random import Random

import numpy as np
import pytest

from benchmarks.scaling.engine import AuditLog, Balancer, Clock, Replica, Station
from benchmarks.scaling.loads import steady
from benchmarks.scaling.runs import Shared, most, offered
from benchmarks.scaling.samples import RESULTS, Samples, published_service


def mean_wait(rate: float, draw, *, servers: int, count: int) -> float:
    """Simulate arrivals of independent callers; mean seconds between arrival and begin of work."""
    clock, random = Clock(), Random(11)
    replica = Replica(clock, draw, servers=servers, max_in_flight=10**9, max_wait_seconds=math.inf)
    spent: list[float] = []
    arrivals = steady(rate, count / rate).arrivals(random)

    def arrive() -> None:
        at = next(arrivals, None)
        if at is not None:
            clock.at(at, arrive)
        began = clock.now
        assert replica.submit(lambda _: spent.append(clock.now - began))

    clock.at(next(arrivals), arrive)
    clock.run(math.inf)
    assert len(spent) > 0.9 * count
    return (sum(spent) - replica.busy_seconds) / len(spent)


def erlang_c_wait(rate: float, service: float, servers: int) -> float:
    load = rate * service
    term = load**servers / math.factorial(servers) / (1 - load / servers)
    waits = term / (sum(load**k / math.factorial(k) for k in range(servers)) + term)
    return waits * service / (servers - load)


@pytest.mark.parametrize(("servers", "use"), [(1, 0.5), (2, 0.6), (4, 0.7)])
def test_random_times_wait_as_in_m_m_c(servers, use):
    random, service = Random(5), 0.1
    rate = use * servers / service
    found = mean_wait(rate, lambda: random.expovariate(1 / service), servers=servers, count=40_000)
    assert found == pytest.approx(erlang_c_wait(rate, service, servers), rel=0.1)


@pytest.mark.parametrize("use", [0.5, 0.8])
def test_equal_times_wait_as_in_m_d_1(use):
    service = 0.1
    expected = use * service / (2 * (1 - use))
    found = mean_wait(use / service, lambda: service, servers=1, count=40_000)
    assert found == pytest.approx(expected, rel=0.05)


def measured(service: tuple[float, ...]) -> Samples:
    return Samples(service, 0.0, 0.0, 0.0, 0.0, 0.0, {})


def test_eight_callers_get_what_was_measured():
    compared = json.loads((RESULTS / "compare.json").read_text())
    goal = compared["results"]["one.jpg"]["throughput_aurum"]["median"]
    found = most(1, measured(published_service()), Shared(), callers=8)
    assert found == pytest.approx(goal, rel=0.05)


def test_three_times_the_capacity_is_refused_as_it_was_measured():
    run = json.loads((RESULTS / "behaviour.json").read_text())["overload"]
    # the callers of the measured run took processor time from the service
    left = run["capacity_per_second"] * run["goodput_over_capacity"]
    service = published_service()
    slower = measured(service).capacity / left
    rate = run["capacity_per_second"] * run["offered_over_capacity"]
    outcome = offered(steady(rate, 60.0), tuple(each * slower for each in service), replicas=1)
    statuses = run["statuses"]
    refused = statuses["503"] / sum(statuses.values())
    assert outcome.answers.refused_share == pytest.approx(refused, abs=0.02)
    p50 = float(np.median(outcome.answers.seconds))
    assert p50 == pytest.approx(run["served_p50_ms"] / 1000, rel=0.2)


def test_a_refused_request_is_given_to_one_other_replica():
    clock = Clock()
    full = Replica(clock, lambda: 1.0, max_in_flight=0)
    free = Replica(clock, lambda: 1.0)
    seen: list[bool] = []
    balancer = Balancer("round_robin", Random(1))
    balancer.replicas = [full, free]
    for _ in range(3):
        balancer.send(seen.append)
    assert (free.taken, seen) == (3, [])
    balancer.replicas = [Replica(clock, lambda: 1.0, max_in_flight=0) for _ in range(3)]
    balancer.send(seen.append)
    assert seen == [False]


def test_least_connections_finds_the_idle_replica():
    clock = Clock()
    balancer = Balancer("least_conn", Random(1))
    balancer.replicas = [Replica(clock, lambda: 1.0) for _ in range(3)]
    for _ in range(6):
        balancer.send(lambda _: None)
    assert [each.taken for each in balancer.replicas] == [2, 2, 2]


def test_lines_that_wait_are_written_together():
    clock = Clock()
    chain = Station(clock, 0.0)
    log = AuditLog(clock, chain, transaction=1.0, line=0.1)
    written: list[float] = []
    for _ in range(5):
        log.add(lambda: written.append(round(clock.now, 6)))
    clock.run(10)
    assert written == [1.1, *[2.5] * 4]


def test_gateways_wait_for_the_lock_of_the_chain():
    clock = Clock()
    chain = Station(clock, 0.0)
    written: list[float] = []
    for _ in range(3):
        log = AuditLog(clock, chain, transaction=1.0, line=0.0)
        log.add(lambda: written.append(clock.now))
    clock.run(10)
    assert written == [1.0, 2.0, 3.0]

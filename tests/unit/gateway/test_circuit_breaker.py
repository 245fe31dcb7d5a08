import pytest

from gateway.circuit_breaker import CircuitBreaker


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_breaker(clock: Clock, **more) -> CircuitBreaker:
    breaker = CircuitBreaker(failures=1, retry_seconds=2, clock=clock, **more)
    breaker.failed()
    assert breaker.is_open
    return breaker


def test_it_opens_after_failures_in_a_row_only(clock):
    breaker = CircuitBreaker(failures=2, clock=clock)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allows_call()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.allows_call()


def test_without_a_retry_time_only_its_owner_closes_it(clock):
    breaker = CircuitBreaker(failures=1, clock=clock)
    breaker.failed()
    clock.now = 1e9
    assert not breaker.allows_call()
    breaker.succeeded()
    assert breaker.allows_call()


def test_one_call_passes_as_a_probe_when_it_is_half_open(clock):
    breaker = open_breaker(clock)
    clock.now = 1.9
    assert not breaker.allows_call()
    clock.now = 2.0
    assert [breaker.allows_call() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert not breaker.is_open
    assert all(breaker.allows_call() for _ in range(3))


def test_a_probe_that_fails_keeps_it_open_as_long_again(clock):
    breaker = open_breaker(clock)
    clock.now = 2.0
    assert breaker.allows_call()
    clock.now = 3.0
    breaker.failed()
    clock.now = 4.9
    assert not breaker.allows_call()
    clock.now = 5.0
    assert breaker.allows_call()


def test_a_probe_that_never_reports_does_not_block_the_next(clock):
    breaker = open_breaker(clock)
    clock.now = 2.0
    assert breaker.allows_call()
    clock.now = 4.0
    assert breaker.allows_call()


def test_its_observer_sees_changes_only(clock):
    seen: list[bool] = []
    breaker = open_breaker(clock, observer=seen.append)
    breaker.failed()
    breaker.succeeded()
    breaker.succeeded()
    assert seen == [True, False]

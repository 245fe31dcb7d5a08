"""The arithmetic of rates: what is accepted in any time, and what is never refused."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.security.limits.meter import TICKS, Bucket

SECOND = 1_000_000
rates = st.integers(1, 100_000)
capacities = st.integers(1, 200)
pauses = st.lists(st.integers(0, 70 * SECOND), max_size=60)


def accepted(bucket: Bucket, gaps: list[int]) -> list[int]:
    """Send a unit after each gap; returns the moments of those that were accepted."""
    now, debt, taken = 0, 0, []
    for gap in gaps:
        now += gap
        debt = bucket.drain(debt, gap)
        if bucket.admits(debt, 1):
            debt += TICKS
            taken.append(now)
    return taken


@given(rates, capacities, pauses)
def test_no_time_sees_more_than_the_burst_and_its_share_of_the_rate(rate, capacity, gaps):
    taken = accepted(Bucket(rate, capacity), gaps)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            units = last - first + 1
            # in ticks, so that nothing is rounded
            assert units * TICKS <= capacity * TICKS + rate * (taken[last] - start)


@given(rates, capacities, pauses)
def test_traffic_within_burst_and_rate_is_never_refused(rate, capacity, gaps):
    bucket = Bucket(rate, capacity)
    # conformant by construction: each unit waits until every window that ends with it has room
    sent: list[int] = []
    now = 0
    for gap in gaps:
        now += gap
        for first, start in enumerate(sent):
            too_many = (len(sent) - first + 1 - capacity) * TICKS
            now = max(now, start - (-too_many // rate))
        sent.append(now)
    gaps = [at - before for at, before in zip(sent, [0, *sent], strict=False)]
    assert accepted(bucket, gaps) == sent


@given(rates, capacities, st.integers(0, 400 * TICKS), st.integers(1, 200))
def test_a_wait_is_long_enough_and_not_longer(rate, capacity, debt, units):
    bucket = Bucket(rate, capacity)
    wait = bucket.wait_microseconds(debt, units)
    if units <= capacity:
        assert bucket.admits(bucket.drain(debt, wait), units)
    assert wait == 0 or not bucket.admits(bucket.drain(debt, wait - 1), units)


@given(rates, capacities, st.integers(0, 400 * TICKS))
def test_as_many_units_fit_as_are_available(rate, capacity, debt):
    bucket = Bucket(rate, capacity)
    available = bucket.available(debt)
    assert available == 0 or bucket.admits(debt, available)
    assert not bucket.admits(debt, available + 1)


def test_a_clock_that_goes_back_pays_nothing():
    assert Bucket(60, 5).drain(TICKS, -SECOND) == TICKS

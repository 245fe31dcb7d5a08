"""Pauses between attempts."""

from gateway.worker.backoff import Backoff, Pauses


def test_pauses_double_up_to_the_longest():
    pauses = Pauses(first=1.0, longest=10.0, draw=lambda: 1.0)
    assert [pauses.of(number) for number in (0, 1, 2, 3, 4, 5000)] == [1, 2, 4, 8, 10, 10]


def test_pauses_are_drawn_from_the_upper_half():
    assert Pauses(first=4.0, longest=10.0, draw=lambda: 0.0).of(0) == 2.0
    assert Pauses(first=4.0, longest=10.0, draw=lambda: 0.5).of(1) == 6.0


def test_a_row_of_pauses_begins_anew_when_it_is_reset():
    backoff = Backoff(Pauses(first=1.0, longest=100.0, draw=lambda: 1.0))
    assert [backoff.next() for _ in range(3)] == [1, 2, 4]
    backoff.reset()
    assert backoff.next() == 1

"""How long a process has left questions unanswered."""

from gateway.vectors.edge.silence import Silence


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_only_open_questions_count():
    clock = Clock()
    silence = Silence(clock=clock)
    clock.now += 50
    assert silence.seconds == 0
    silence.asked()
    clock.now += 3
    silence.asked()
    clock.now += 1
    assert silence.seconds == 4
    silence.answered()
    clock.now += 2
    assert silence.seconds == 2, "an answer is a sign of life"
    silence.answered()
    clock.now += 60
    assert silence.seconds == 0
    silence.asked()
    assert silence.seconds == 0


def test_a_stray_answer_does_not_count_below_nothing():
    clock = Clock()
    silence = Silence(clock=clock)
    silence.answered()
    silence.asked()
    clock.now += 5
    assert silence.seconds == 5

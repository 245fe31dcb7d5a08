"""What callers may see while components fail."""

import pytest

from benchmarks.failures.jobs import Ended
from benchmarks.failures.judge import find_wrong, may_fail, summarise, wrong_jobs
from benchmarks.failures.load import BROKEN, HANGS, Seen

DEADLINE = 4.0


def seen(operation: str = "score", status: int = 200, seconds: float = 0.1, **more) -> Seen:
    return Seen(operation, 0.0, seconds, status, **more)


def wrong(*answers: Seen, troubled: tuple[str, ...] = ("triton",)) -> list[str]:
    return find_wrong(answers, troubled=troubled, deadline_seconds=DEADLINE)


@pytest.mark.parametrize(
    ("operation", "troubled", "allowed"),
    [
        ("score", {"triton"}, True),
        ("score", {"redis", "vectors", "postgresql", "objects", "worker"}, False),
        ("score, known photo", {"triton"}, False),
        ("score, known photo", {"triton", "redis"}, True),
        ("search", {"triton", "redis"}, False),
        ("search", {"sqlite"}, True),
        ("create a job", {"objects"}, True),
        ("show jobs", {"objects"}, False),
        ("search", {"gateway"}, True),
    ],
)
def test_what_an_operation_needs(operation, troubled, allowed):
    assert may_fail(operation, troubled) is allowed


def test_success_and_an_honest_refusal_are_right():
    refused = seen(status=503, code="inference_unavailable", retry_after=True)
    late = seen(status=504, code="timeout", seconds=DEADLINE + 0.3)
    assert wrong(seen(), refused, late, seen("readiness", 503, retry_after=True)) == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (seen(status=500, code="internal", detail="oh"), "500 internal for a good request"),
        (seen(status=409, code="conflict"), "409 conflict for a good request"),
        (seen(status=503, retry_after=True), "503 for a good request"),
        (seen(status=503, code="inference_unavailable"), "503 without Retry-After"),
        (seen(seconds=DEADLINE + 2), "later than the deadline"),
        (seen(status=HANGS, seconds=20), "no answer"),
        (seen(status=BROKEN), "connection lost"),
        (
            seen("search", 503, code="storage_unavailable", retry_after=True),
            "503 storage_unavailable, though it needs nothing that failed",
        ),
    ],
)
def test_broken_promises_are_named_once(answer, complaint):
    (found,) = wrong(answer, answer)
    assert found.startswith(f"{answer.operation}: {complaint}")


def test_a_gateway_that_is_down_answers_nothing():
    assert wrong(seen(status=BROKEN), seen(seconds=60), troubled=("gateway",)) == []


def test_answers_are_counted_by_operation():
    answers = [
        seen(engine="triton"),
        seen(engine="cached", seconds=9.0),
        seen(status=503, code="inference_unavailable"),
        seen("search"),
    ]
    score, search = summarise(answers, deadline_seconds=DEADLINE)
    assert (score.operation, search.operation) == ("score", "search")
    assert score.statuses == {"200": 2, "503 inference_unavailable": 1}
    assert score.within_deadline == pytest.approx(2 / 3)
    assert (score.worst_seconds, score.engines) == (9.0, {"triton": 1, "cached": 1})


def test_each_image_of_a_job_ends_well_once():
    assert wrong_jobs(Ended(accepted=6, done=6)) == []
    assert wrong_jobs(Ended(accepted=6, done=5, lost=1)) == ["1 images of jobs lost, 0 doubled"]
    bad = Ended(accepted=6, done=5, unfinished_jobs=1)
    bad.reasons["internal"] += 1
    assert len(wrong_jobs(bad)) == 2

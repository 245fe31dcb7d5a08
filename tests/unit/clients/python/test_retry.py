"""Which requests are sent again, when, and with what."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from aurum_client import (
    AurumError,
    ConflictError,
    Problem,
    ProblemError,
    RateLimitedError,
    RetryPolicy,
    ServiceUnreachableError,
    TimeLimitError,
    TimeLimits,
    UnavailableError,
    UnexpectedAnswerError,
)
from aurum_client.retry import Outage

from tests.support.client_script import Script, refusal, run_async, run_sync

SOON = RetryPolicy(attempts=3, first_pause=0.001)


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request) -> Callable[..., Any]:
    return request.param


@pytest.mark.parametrize(
    "failure",
    [
        refusal(503, "inference_unavailable"),
        refusal(429, "rate_limited"),
        httpx.Response(502, text="<html>bad gateway"),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("late"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
    ],
)
@pytest.mark.parametrize(
    "work", [lambda client: client.live(), lambda client: client.detect(b"\xff\xd8\xff")]
)
def test_reading_and_inference_are_repeated(run, failure, work):
    script = Script(failure, failure, httpx.Response(204))
    # the third answer is not understood, which is no reason to ask again
    with pytest.raises(UnexpectedAnswerError, match="not understood"):
        run(script, work, retry=SOON)
    assert len(script.requests) == 3
    assert len(set(script.bodies)) == 1


@pytest.mark.parametrize(
    "failure",
    [
        refusal(500, "internal"),
        refusal(504, "timeout"),
        refusal(422, "no_face"),
        refusal(409, "conflict"),
        httpx.ReadTimeout("late"),
    ],
)
def test_other_failures_are_not_repeated(run, failure):
    script = Script(failure)
    with pytest.raises(AurumError):
        run(script, lambda client: client.live(), retry=SOON)


CHANGES: list[Callable[[Any], Any]] = [
    lambda client: client.create_collection("x"),
    lambda client: client.delete_subject("x", "y"),
    lambda client: client.update_collection("x", description="y"),
    lambda client: client.migrate_collection("x"),
]


@pytest.mark.parametrize("work", CHANGES)
@pytest.mark.parametrize(
    ("failure", "sent"),
    [
        (refusal(503, "storage_unavailable"), 1),
        (httpx.ReadError("reset"), 1),
        (httpx.ConnectError("refused"), 3),
        (refusal(429, "rate_limited"), 3),
    ],
)
def test_changes_are_repeated_only_if_the_service_did_not_act(run, work, failure, sent):
    script = Script(failure, failure, failure)
    with pytest.raises(AurumError):
        run(script, work, retry=SOON)
    assert len(script.requests) == sent
    assert "Idempotency-Key" not in script.requests[0].headers


def test_an_enrolment_is_repeated_with_its_key(run):
    running = refusal(409, "conflict", **{"Retry-After": "0"})
    answer = {"request_id": "r", "faces": [], "rejected": [], "space": None}
    script = Script(
        httpx.ReadError("reset"),
        running,
        refusal(503, "storage_unavailable"),
        httpx.Response(201, json=answer),
    )
    enrolment = run(
        script,
        lambda client: client.enrol("x", b"image", subject="a", metadata={"b": 1}),
        retry=RetryPolicy(attempts=4, first_pause=0.001),
    )
    assert enrolment.faces == ()
    keys = {request.headers["Idempotency-Key"] for request in script.requests}
    assert len(script.requests) == 4
    assert len(keys) == 1
    assert b'{"b": 1}' in script.bodies[3]
    other = Script(httpx.Response(201, json=answer), httpx.Response(201, json=answer))
    run(other, lambda client: client.enrol("x", b"image"))
    run(other, lambda client: client.enrol("x", b"image", idempotency_key="mine"))
    first, second = (request.headers["Idempotency-Key"] for request in other.requests)
    assert first not in keys
    assert second == "mine"


def test_a_conflict_without_retry_after_is_final(run):
    with pytest.raises(ConflictError):
        run(
            Script(refusal(409, "conflict")), lambda client: client.enrol("x", b"image"), retry=SOON
        )


def test_nothing_is_repeated_after_the_deadline(run):
    busy = refusal(503, "inference_unavailable", **{"Retry-After": "60"})
    started = time.monotonic()
    script = Script(busy)
    with pytest.raises(UnavailableError):
        run(
            script,
            lambda client: client.detect(b"x"),
            retry=SOON,
            limits=TimeLimits(total=30),
        )
    assert time.monotonic() - started < 30


def test_a_call_without_time_left_is_not_sent(run):
    script = Script()
    with pytest.raises(TimeLimitError, match="total"):
        run(script, lambda client: client.live(), limits=TimeLimits(total=1e-9))


def test_pauses_grow_and_are_partly_random():
    policy = RetryPolicy(first_pause=1, longest_pause=4)
    error = ServiceUnreachableError("x", sent=False)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (9, 4)):
        pauses = [policy.pause(attempt, error) for _ in range(50)]
        assert most / 2 <= min(pauses) < max(pauses) <= most


@pytest.mark.parametrize("kind", [RateLimitedError, ConflictError])
def test_the_service_sets_the_shortest_pause(kind):
    error: ProblemError = kind(Problem("c", 429, "T", "D", "r"), 20)
    pauses = [RetryPolicy().pause(1, error) for _ in range(50)]
    assert min(pauses) >= 20
    assert max(pauses) <= 20.25
    assert len(set(pauses)) > 1


def test_policies_are_checked():
    with pytest.raises(ValueError, match="at least once"):
        RetryPolicy(attempts=0)
    with pytest.raises(ValueError, match="positive"):
        TimeLimits(read=0)


def test_each_outage_has_its_own_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("aurum_client.retry.time.monotonic", lambda: now[0])
    outage = Outage(RetryPolicy(first_pause=1.0), seconds=10)
    away = ServiceUnreachableError("refused", sent=False)
    pauses = []
    for now[0] in (0.0, 4.0, 9.0):
        pauses.append(outage.pause(away))
    assert 0.5 <= pauses[0] <= 1 <= pauses[1] <= 2 <= pauses[2] <= 4
    outage.end()
    now[0] = 12.0
    assert outage.pause(away) <= 1
    now[0] = 22.0
    with pytest.raises(ServiceUnreachableError):
        outage.pause(away)
    with pytest.raises(ConflictError):
        Outage(SOON, seconds=10).pause(ConflictError(Problem("conflict", 409, "", "", "")))

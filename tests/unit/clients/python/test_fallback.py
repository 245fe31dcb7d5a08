"""When the fallback answers, and when the service is asked again."""

import time
from typing import Any

import httpx
import pytest
from aurum_client import (
    FaceOptions,
    FacesResult,
    Problem,
    RetryPolicy,
    ServiceUnreachableError,
    TimeLimitError,
    TimeLimits,
    UnexpectedAnswerError,
)
from aurum_client.errors import FAMILIES
from aurum_client.fallback import HealthGate, means_unhealthy
from aurum_client.results.base import read

from tests.support.client_script import Script, run_async, run_sync

ONCE = RetryPolicy(attempts=1)
ANSWER: dict[str, Any] = {
    "request_id": "r",
    "image": {"width": 1, "height": 1, "sha256": "0"},
    "faces": [],
    "faces_found": 0,
    "rotation": 0,
    "models": {"detection": "1", "embedding": None, "scoring": None, "space": None},
    "engine": "triton",
    "cached": False,
    "took_ms": {"validate": 0, "inference": 0, "total": 0},
}


def problem(code: str, status: int) -> Any:
    return FAMILIES[code](Problem(code, status, "T", "D", "r"))


@pytest.mark.parametrize(
    ("error", "unhealthy"),
    [
        (ServiceUnreachableError("refused", sent=False), True),
        (TimeLimitError("read"), True),
        (UnexpectedAnswerError("a page", 502), True),
        (problem("inference_unavailable", 503), True),
        (problem("storage_unavailable", 503), False),
        (problem("rate_limited", 429), False),
        (problem("no_face", 422), False),
        (problem("internal", 500), False),
        (UnexpectedAnswerError("a page", 404), False),
    ],
)
def test_what_means_that_the_service_is_unhealthy(error, unhealthy):
    assert means_unhealthy(error) == unhealthy


def test_one_caller_checks_at_a_time(monkeypatch):
    now = 100.0
    monkeypatch.setattr("aurum_client.fallback.time.monotonic", lambda: now)
    gate = HealthGate(5)
    assert gate.is_healthy
    assert not gate.claim_check()
    gate.report_failure()
    assert not gate.is_healthy
    assert not gate.claim_check()
    now = 105.0
    assert gate.claim_check()
    assert not gate.claim_check()
    now = 110.0
    assert gate.claim_check()
    gate.report_success()
    assert gate.is_healthy


class Local:
    """A fallback that knows one answer."""

    def __init__(self) -> None:
        self.asked: list[FaceOptions] = []

    def score(self, image: bytes, options: FaceOptions) -> FacesResult:
        self.asked.append(options)
        return read(FacesResult, ANSWER)

    detect = embed = score


def faces(**changes: Any) -> httpx.Response:
    return httpx.Response(200, json={**ANSWER, **changes})


READY = httpx.Response(200, json={"status": "ready", "parts": {}})
REFUSED = httpx.ConnectError("refused")


@pytest.mark.parametrize("run", [run_sync, run_async])
def test_a_refused_connection_and_the_way_back(run):
    local = Local()

    def work(client: Any) -> Any:
        return client.score(b"x", include=["crop"], max_faces=2)

    def ask(script: Script, check_seconds: float) -> list[str]:
        engines: list[str] = []
        options = {"fallback": local, "check_seconds": check_seconds, "retry": ONCE}
        if run is run_sync:
            run(
                script,
                lambda client: engines.extend(work(client).engine for _ in range(4)),
                **options,
            )
        else:

            async def all_of(client: Any) -> None:
                for _ in range(4):
                    engines.append((await work(client)).engine)

            run(script, all_of, **options)
        return engines

    # refused; refused at the check; the check passes; then no check any more
    script = Script(REFUSED, REFUSED, READY, faces(), faces())
    assert ask(script, 0) == ["fallback", "fallback", "triton", "triton"]
    paths = [request.url.path for request in script.requests]
    score, ready = "/api/ml/score", "/api/health/ready"
    assert paths == [score, ready, ready, score, score]
    assert local.asked == [FaceOptions(include=("crop",), max_faces=2)] * 2
    # within the pause nobody asks the service
    script = Script(REFUSED)
    assert ask(script, 60) == ["fallback"] * 4


def test_a_call_whose_time_is_up_gets_no_fallback_but_the_next_does():
    def late(_: httpx.Request) -> httpx.Response:
        time.sleep(0.2)
        return faces()

    def work(client: Any) -> None:
        with pytest.raises(TimeLimitError):
            client.with_options(limits=TimeLimits(total=0.1)).detect(b"x")
        assert client.uses_fallback
        assert client.detect(b"x").engine == "fallback"

    run_sync(late, work, fallback=Local())

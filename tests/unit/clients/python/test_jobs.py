"""Jobs of the client against a scripted service: uploads again, streams that break, outages."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from aurum_client import (
    AurumError,
    ConflictError,
    NotFoundError,
    RetryPolicy,
    ServiceUnreachableError,
    TimeLimitError,
    UnexpectedAnswerError,
)

from tests.support.client_script import Script, refusal, run_async, run_sync

SOON = RetryPolicy(attempts=3, first_pause=0.001)
JOB = {
    "job_id": "j",
    "operation": "score",
    "state": "running",
    "total": 2,
    "done": 0,
    "failed": 0,
    "skipped": 0,
    "created_at": "2026-11-29T12:00:00.000Z",
    "started_at": None,
    "finished_at": None,
    "expires_at": None,
    "images_per_second": None,
    "seconds_left": None,
    "detail": None,
    "collection": None,
    "webhook": {"state": "none", "attempts": 0},
}
DONE = {**JOB, "state": "done", "done": 1, "failed": 1}
ITEMS = [
    {"index": 0, "name": "a.jpg", "status": "ok"},
    {"index": 1, "name": "b.jpg", "status": "error", "error": {"code": "no_face", "detail": "x"}},
]


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "async"])
def run(request) -> Callable[..., Any]:
    return request.param


@pytest.fixture
def listed(run) -> Callable[..., Any]:
    """Collect what an iterator of the client yields."""

    def collect(script: Script, work: Callable[[Any], Any], **options: Any) -> list[Any]:
        if run is run_sync:
            return run(script, lambda client: list(work(client)), **options)

        async def gather(client: Any) -> list[Any]:
            return [each async for each in work(client)]

        return run(script, gather, **options)

    return collect


def answered(body: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


def stream(*events: tuple[str, object, str | None], retry: int = 1) -> httpx.Response:
    text = f"retry: {retry}\n\n" + "".join(
        ("" if number is None else f"id: {number}\n")
        + f"event: {name}\ndata: {json.dumps(data)}\n\n"
        for name, data, number in events
    )
    return httpx.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


def test_an_upload_is_repeated_as_a_whole_under_one_key(run, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"image")
    running = refusal(409, "conflict", **{"Retry-After": "0"})
    script = Script(httpx.ReadError("reset"), refusal(503, "jobs_unavailable"), running)
    script.answers.append(answered(JOB, 202))
    patient = RetryPolicy(attempts=4, first_pause=0.001)
    job = run(script, lambda client: client.jobs.submit([path, b"two"], max_faces=3), retry=patient)
    assert job.job_id == "j"
    assert job.webhook.attempts == 0
    assert not job.is_finished
    assert len(set(script.bodies)) == 1
    assert script.bodies[0].count(b'name="images"') == 2
    for request in script.requests:
        assert request.headers["Content-Length"] == str(len(script.bodies[0]))
        assert "Transfer-Encoding" not in request.headers
        assert dict(request.url.params) == {"operation": "score", "max_faces": "3"}
    keys = {request.headers["Idempotency-Key"] for request in script.requests}
    assert len(keys) == 1
    assert keys != {""}


def test_a_refused_upload_is_not_repeated(run):
    script = Script(refusal(400, "invalid_request"))
    with pytest.raises(AurumError):
        run(script, lambda client: client.jobs.submit(b"x", idempotency_key="mine"), retry=SOON)
    assert script.requests[0].headers["Idempotency-Key"] == "mine"


def test_changes_are_sent_once(run):
    for verb in ("retry", "pause", "resume", "cancel"):
        script = Script(httpx.ReadError("reset"))
        with pytest.raises(ServiceUnreachableError):
            run(script, lambda client, verb=verb: getattr(client.jobs, verb)("j"), retry=SOON)
        method = "DELETE" if verb == "cancel" else "POST"
        assert (script.requests[0].method, len(script.requests)) == (method, 1)


def test_lists_and_results_follow_their_pages(listed):
    pages = [{"request_id": "r", "jobs": [JOB], "next_cursor": cursor} for cursor in ("c", None)]
    script = Script(*map(answered, pages))
    jobs = listed(script, lambda client: client.jobs.list(state=["queued", "running"], page_size=1))
    assert len(jobs) == 2
    assert dict(script.requests[1].url.params) == {
        "state": "queued,running",
        "limit": "1",
        "cursor": "c",
    }
    page = {"request_id": "r", "job_id": "j", "results": ITEMS, "next_cursor": None}
    items = listed(Script(answered(page)), lambda client: client.jobs.results("j"))
    assert [(item.status, item.error and item.error.code) for item in items] == [
        ("ok", None),
        ("error", "no_face"),
    ]


def test_an_interrupted_stream_is_resumed_after_its_last_event(listed):
    script = Script(
        stream(("job", JOB, None), ("item", ITEMS[0], "1")),
        refusal(503, "storage_unavailable"),
        httpx.ConnectError("refused"),
        stream(("item", ITEMS[1], "2"), ("other", {}, None), ("job", DONE, "2-end")),
    )
    events = listed(script, lambda client: client.jobs.events("j", results=True), retry=SOON)
    assert [event.item.name for event in events if event.item] == ["a.jpg", "b.jpg"]
    assert [event.job.state for event in events if event.job] == ["running", "done"]
    assert [request.headers.get("Last-Event-ID") for request in script.requests] == [
        None,
        "1",
        "1",
        "1",
    ]
    assert script.requests[0].url.params["results"] == "true"
    assert script.answers == []


def test_a_stream_with_nothing_more_ends(listed):
    script = Script(httpx.Response(204))
    assert listed(script, lambda client: client.jobs.events("j", last_event_id="2-end")) == []
    assert script.requests[0].headers["Last-Event-ID"] == "2-end"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(404, "not_found"), NotFoundError),
        (stream(("job", {"job_id": 5}, None)), UnexpectedAnswerError),
    ],
)
def test_a_stream_that_cannot_go_on_raises(listed, answer, expected):
    with pytest.raises(expected):
        listed(Script(answer), lambda client: client.jobs.events("j"))


def test_a_service_that_stays_away_ends_the_stream(listed):
    away = [httpx.ConnectError("refused") for _ in range(5)]
    with pytest.raises(ServiceUnreachableError):
        listed(Script(*away), lambda client: client.jobs.events("j", outage_seconds=0), retry=SOON)
    with pytest.raises(TimeLimitError):
        listed(Script(*away), lambda client: client.jobs.events("j", timeout=0.01), retry=SOON)


def test_waiting_survives_an_outage(run):
    script = Script(
        answered(JOB),
        refusal(503, "storage_unavailable"),
        httpx.ConnectError("refused"),
        answered(DONE),
    )
    once = RetryPolicy(attempts=1, first_pause=0.001)
    job = run(script, lambda client: client.jobs.wait("j"), retry=once)
    assert job.is_finished
    assert {request.url.params["wait"] for request in script.requests} == {"30.0"}


def test_waiting_ends_with_its_timeout_and_other_errors(run):
    with pytest.raises(TimeLimitError):
        run(Script(*[answered(JOB)] * 9), lambda client: client.jobs.wait("j", timeout=0.6))
    with pytest.raises(ConflictError):
        run(Script(refusal(409, "conflict")), lambda client: client.jobs.wait("j"))


def test_results_are_downloaded_as_they_are(listed):
    script = Script(httpx.Response(200, content=b"index,name\n0,a.jpg\n"), refusal(404, "x"))
    chunks = listed(script, lambda client: client.jobs.download_results("j", format="csv"))
    assert b"".join(chunks) == b"index,name\n0,a.jpg\n"
    with pytest.raises(AurumError):
        listed(script, lambda client: client.jobs.download_results("j"))

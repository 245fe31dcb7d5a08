"""How the bulk commands treat a service that is busy, slow, away or something else."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tools.batch import service as service_module
from tools.batch.service import Request, Service
from tools.errors import BatchError, ServiceError


class Script:
    """A service that gives these answers, one after the other; the last one again and again."""

    def __init__(self) -> None:
        self.answers: list[web.Response | None] = []
        self.times: list[float] = []
        self.bodies: list[bytes] = []
        self.queries: list[dict[str, str]] = []
        self.paths: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.times.append(time.monotonic())
        self.bodies.append(await request.read())
        self.queries.append(dict(request.query))
        self.paths.append(request.raw_path)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if given is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        headers = {name: given.headers[name] for name in given.headers if name == "Retry-After"}
        return web.Response(
            body=given.body, status=given.status, headers=headers, content_type=given.content_type
        )


def reply(status: int, **headers: str) -> web.Response:
    body = {"code": f"code{status}", "detail": f"detail {status}"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body, status=status, headers=named)


@pytest.fixture
async def script() -> Script:
    return Script()


@pytest.fixture
async def url(script: Script) -> AsyncIterator[str]:
    async def live(_: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    app = web.Application()
    app.router.add_get("/api/health/live", live)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    app.router.add_post("/ask", script.answer)
    app.router.add_post("/ask/{rest}", script.answer)
    app.router.add_post("/slow", slow)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


async def ask(url: str, *, patience_seconds: float = 20.0) -> service_module.Reply:
    async with Service(url, parallel=2, patience_seconds=patience_seconds) as service:
        return await service.ask(Request("/ask", {"subject": "ada"}, image=b"\x89PNG"))


@pytest.mark.parametrize("status", [429, 503])
async def test_it_waits_as_long_as_it_is_asked_to(url, script, status):
    script.answers = [reply(status, Retry_After="1"), reply(200)]
    assert (await ask(url)).status == 200
    assert script.times[1] - script.times[0] >= 0.99
    # the whole form is sent again
    assert b"\x89PNG" in script.bodies[1]
    assert b"ada" in script.bodies[1]


async def test_the_query_of_a_path_is_sent(url, script):
    script.answers = [reply(200)]
    async with Service(url, parallel=1) as service:
        await service.ask(Request("/ask?max_faces=3&detail=", image=b"x"))
    assert script.queries == [{"max_faces": "3", "detail": ""}]


async def test_a_date_to_come_back_at(url, script):
    when = datetime.now(UTC) + timedelta(seconds=2)
    script.answers = [reply(503, Retry_After=format_datetime(when, usegmt=True)), reply(200)]
    assert (await ask(url)).is_good
    assert script.times[1] - script.times[0] >= 0.9


async def test_what_one_request_is_told_holds_for_all(url, script):
    script.answers = [reply(503, Retry_After="1"), reply(200)]
    async with Service(url, parallel=2) as service:
        first = asyncio.create_task(service.ask(Request("/ask")))
        while len(script.answers) > 1 or service._not_before == 0:
            await asyncio.sleep(0.01)
        assert (await service.ask(Request("/ask"))).is_good
        assert (await first).is_good
    assert len(script.times) == 3
    assert script.times[1] - script.times[0] >= 0.99


async def test_a_broken_connection_is_tried_again(url, script):
    script.answers = [None, reply(502), reply(200)]
    assert (await ask(url)).status == 200
    assert len(script.times) == 3


@pytest.mark.parametrize("status", [500, 504])
async def test_an_error_of_one_request_is_tried_a_few_times(url, script, status):
    script.answers = [reply(status)]
    found = await ask(url)
    assert (found.status, found.code) == (status, f"code{status}")
    assert len(script.times) == 3


async def test_an_answer_that_takes_too_long_is_tried_a_few_times(url, monkeypatch):
    monkeypatch.setattr(service_module, "_ANSWER_SECONDS", 0.2)
    async with Service(url, parallel=1) as service:
        found = await service.ask(Request("/slow", image=b"x"))
    assert (found.status, found.code) == (504, "timeout")
    assert "no answer within 0.2 s" in found.body["detail"]


async def test_escaped_dots_and_slashes_stay_within_their_segment(url, script):
    script.answers = [reply(200)]
    async with Service(url, parallel=1) as service:
        for path in ("/ask/%2E%2E", "/ask/a%2Fb%20c"):
            assert (await service.ask(Request(path))).is_good
    assert script.paths == ["/ask/%2E%2E", "/ask/a%2Fb%20c"]


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 507])
async def test_an_answer_that_will_not_change_is_final(url, script, status):
    script.answers = [reply(status), reply(200)]
    assert (await ask(url)).status == status


async def test_the_first_request_with_a_key_is_waited_for(url, script):
    script.answers = [reply(409, Retry_After="1"), reply(201)]
    assert (await ask(url)).status == 201


async def test_patience_ends(url, script):
    script.answers = [reply(503, Retry_After="60")]
    before = time.monotonic()
    with pytest.raises(ServiceError, match="detail 503"):
        await ask(url, patience_seconds=30)
    # it does not wait for what it will not use
    assert time.monotonic() - before < 30
    script.answers = [None]
    with pytest.raises(ServiceError, match="not reachable"):
        await ask(url, patience_seconds=0.5)


async def test_an_answer_that_is_no_json_is_a_failure(url, script):
    script.answers = [web.Response(text="<html>", status=404)]
    assert (await ask(url)).code == "no_json"


async def test_something_else_at_the_address(url):
    with pytest.raises(ServiceError, match="no Aurum gateway"):
        await ask(f"{url}/elsewhere")
    with pytest.raises(BatchError, match="does not begin with"):
        await ask("localhost:80")
    with pytest.raises(ServiceError, match="no gateway at"):
        await ask("http://127.0.0.1:9")

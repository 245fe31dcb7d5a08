"""Methods, `Expect`, and what is no HTTP."""

import asyncio

import pytest

from gateway.api.table import ROUTES
from tests.support.fake_inference import photo
from tests.support.raw_http import exchange, filled, head, people, refused, send

__all__ = ["people"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG = photo()
GETS = sorted({route.path for route in ROUTES if route.method == "GET"})
PATHS = sorted({route.path for route in ROUTES})


COUNTING = ("/metrics", "/api/admin/audit")


@pytest.mark.parametrize("path", GETS)
async def test_head_is_answered_as_get_without_the_body(people, path):
    got = await send(people, "GET", filled(path))
    asked = await send(people, "HEAD", filled(path))
    assert asked.body == b""
    assert asked.status == got.status
    assert set(asked.headers) == set(got.headers)
    for name in set(got.headers) - {"Date", "X-Request-ID"}:
        # the metrics count this very request, and the audit log has it
        if path not in COUNTING or name != "Content-Length":
            assert asked.headers[name] == got.headers[name], name
    if path != "/metrics":
        assert int(got.headers["Content-Length"]) == len(got.body)


async def test_head_keeps_the_connection_in_step(people):
    two = [head("HEAD", "/api/openapi.json", close=False), head("GET", "/api/health/live")]
    answer = await exchange(people, two)
    assert answer.status == 200
    assert answer.body.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.body.endswith(b'{"status":"live"}')


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_answered_with_those_that_are_there(people, path):
    expected = {route.method for route in ROUTES if route.path == path}
    expected |= {"HEAD"} if "GET" in expected else set()
    for method in ("PUT", "TRACE", "OPTIONS", *({"GET", "POST", "HEAD"} - expected)):
        answer = await send(people, method, filled(path))
        assert set(answer.headers["Allow"].split(", ")) == expected
        if method == "OPTIONS":
            assert (answer.status, answer.body) == (204, b"")
        else:
            assert answer.status == 405
            assert method == "HEAD" or refused(answer, "method_not_allowed")
    assert refused(await send(people, "OPTIONS", "/none"), "not_found")


async def test_a_body_is_asked_for_when_it_is_wanted(people):
    lines = ["Content-Type: image/png", "Expect: 100-continue"]
    answer = await send(people, "POST", "/api/ml/detect", PNG, *lines)
    assert (answer.before, answer.status) == (b"HTTP/1.1 100 Continue", 200)
    lines[1] = "Expect: something"
    answer = await send(people, "POST", "/api/ml/detect", PNG, *lines)
    assert (answer.before, answer.status) == (b"", 200)


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("/api/ml/detect", "image/png", "image_too_large"),
        ("/api/ml/detect", "text/plain", "unsupported_media_type"),
        ("/api/ml/detect?x=1", "image/png", "invalid_request"),
    ],
)
async def test_a_body_that_is_refused_is_not_asked_for(people, path, kind, code):
    start = head(
        "POST", path, f"Content-Type: {kind}", "Expect: 100-continue", length=1 << 30, close=False
    )
    # without a wait for a body that may never come
    async with asyncio.timeout(15):
        answer = await exchange(people, [start])
    assert answer.before == b""
    refused(answer, code)
    # nobody knows whether the body still comes: nothing else may follow on this connection
    assert answer.headers["Connection"] == "close"


async def test_what_is_no_http_is_refused_as_a_problem(people, caplog):
    for data in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"FOO / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
    ):
        answer = await exchange(people, [data])
        assert "HTTP" in refused(answer)
    assert not [record for record in caplog.records if record.exc_info]

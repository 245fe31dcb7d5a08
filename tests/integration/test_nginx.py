"""nginx with the configuration that we ship, in front of gateways."""

import asyncio
import json
import ssl
import subprocess
from contextlib import AsyncExitStack

import aiohttp
import grpc
import pytest
from aiohttp import ClientSession, web

from gateway.error_policy import POLICIES
from gateway.kserve.grpc_upstream import SERVICE
from tests.support import nginx
from tests.support.certificates import Authority
from tests.support.fake_inference import photo
from tests.support.gateway_server import form
from tests.support.grpc_gateway import infer_request, serving_grpc
from tests.support.grpc_triton import Script, running
from tests.support.serving import free_ports

MESSAGE = infer_request(photo()).SerializeToString()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def port_of(address) -> int:
    return int(str(address).rstrip("/").rpartition(":")[2])


@pytest.mark.parametrize("internal", [False, True], ids=["plain inside", "TLS inside"])
async def test_one_port_with_tls_answers_http_1_http_2_and_grpc(tmp_path, authority, internal):
    port, gone = free_ports(2)
    edge = authority.issue("127.0.0.1", name="edge")
    inside = authority.issue("gateway", "127.0.0.1", "localhost", name="inside")
    files = {"tls_certificate_file": inside.certificate, "tls_key_file": inside.key}
    async with AsyncExitStack() as stack:
        triton = await stack.enter_async_context(running(Script()))
        address, client = await stack.enter_async_context(
            serving_grpc(triton_grpc_url=triton, home=tmp_path, **(files if internal else {}))
        )
        url = stack.enter_context(
            nginx.balancing(
                tmp_path / "nginx",
                port,
                # one of two gateways is away, which no caller notices
                [port_of(client._base_url), gone],
                grpc=[port_of(address), gone],
                tls=edge,
                gateway_ca=authority.file if internal else None,
            )
        )
        trusting = ssl.create_default_context(cafile=authority.file)
        async with ClientSession(url, connector=aiohttp.TCPConnector(ssl=trusting)) as caller:
            for _ in range(4):
                async with caller.post("/api/ml/detect", data=form(image=photo())) as answer:
                    assert answer.status == 200
                    assert "Strict-Transport-Security" in answer.headers
            async with caller.post("/api/collections", json={"name": "c"}) as answer:
                assert answer.status == 201
        # curl speaks HTTP/2
        curl = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--cacert", str(authority.file), "--http2"),
            *("--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"),
            f"{url}/api/health/live",
            stdout=subprocess.PIPE,
        )
        assert (await curl.communicate())[0] == b"2 200"
        credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            for _ in range(4):
                await channel.unary_unary(f"/{SERVICE}/ModelInfer")(MESSAGE, timeout=60)
            stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")()
            await stream.write(MESSAGE)
            assert (await stream.read())[:1] == b"\x12"
            await stream.done_writing()
            assert await stream.code() is grpc.StatusCode.OK


class Behind:
    """A server behind nginx that shows what arrives, and sends events when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.first = asyncio.Event()

    async def show(self, request: web.Request) -> web.Response:
        if request.path == "/api/busy":
            raise web.HTTPTooManyRequests(text="the gateway's own")
        return web.json_response(dict(request.headers))

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        # the first may come along with the head of the answer
        for piece in (b"first\n", b"second\n", b"third\n"):
            await response.write(piece)
            await self.go_on.wait()
            self.go_on.clear()
        return response

    async def upload(self, request: web.Request) -> web.Response:
        await request.content.readany()
        self.first.set()
        return web.json_response({"bytes": len(await request.content.read())})


@pytest.fixture
async def behind():
    app, server = web.Application(client_max_size=1 << 30), Behind()
    app.router.add_get("/api/ml/jobs/{id}/events", server.events)
    app.router.add_post("/api/ml/score/batch", server.upload)
    app.router.add_route("*", "/{path:.*}", server.show)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    server.port = port
    yield server
    await runner.cleanup()


def is_problem(answer, body, code: str) -> None:
    """Check an answer of nginx itself against the table of errors."""
    policy = POLICIES[code]
    problem = json.loads(body)
    assert answer.content_type == "application/problem+json"
    assert (answer.status, problem["status"]) == (policy.status, policy.status)
    assert (problem["title"], problem["code"]) == (policy.title, code)
    assert problem["type"] == f"urn:aurum:problem:{code}"
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert ("Retry-After" in answer.headers) == (policy.retry_after == "always")


async def test_events_pass_at_once_and_uploads_of_jobs_are_not_held_back(tmp_path, behind):
    (port,) = free_ports(1)
    with nginx.balancing(tmp_path / "n", port, [behind.port, behind.port]) as url:
        async with ClientSession(url) as caller, asyncio.timeout(60):
            async with caller.get("/api/ml/jobs/1/events") as answer:
                # each is sent only when the one before has arrived
                for piece in (b"first\n", b"second\n", b"third\n"):
                    assert await answer.content.readline() == piece
                    behind.go_on.set()

            async def pieces():
                yield b"x" * 100_000
                # the rest is not sent before the beginning arrived
                await behind.first.wait()
                yield b"x" * (95 << 20)

            async with caller.post("/api/ml/score/batch", data=pieces()) as answer:
                assert answer.status == 200
                assert (await answer.json())["bytes"] >= 95 << 20


async def test_a_gateway_sees_an_id_and_the_address_of_the_connection(tmp_path, behind):
    (port,) = free_ports(1)
    claimed = {"X-Forwarded-For": "8.8.8.8", "X-Request-ID": "mine", "X-Forwarded-Proto": "ftp"}
    with nginx.balancing(tmp_path / "n", port, [behind.port, behind.port]) as url:
        async with ClientSession(url) as caller:
            async with caller.get("/api/x?name=ada", headers=claimed) as answer:
                seen = await answer.json()
            assert seen["X-Forwarded-For"] == "127.0.0.1"
            assert seen["X-Forwarded-Proto"] == "http"
            assert seen["Host"] == f"127.0.0.1:{port}"
            # the gateway's own refusal is passed on as it is
            async with caller.get("/api/busy") as answer:
                assert (answer.status, await answer.text()) == (429, "the gateway's own")
            for private in ("/metrics", "/api/health/ready"):
                async with caller.get(private) as answer:
                    assert answer.status == 404
            async with caller.get("/nginx/health") as answer:
                assert answer.status == 204
    lines = [json.loads(line) for line in (tmp_path / "n/access.log").read_text().splitlines()]
    assert lines[0]["request_id"] == seen["X-Request-ID"] != "mine"
    assert (lines[0]["path"], lines[0]["status"]) == ("/api/x", 200)
    assert "ada" not in (tmp_path / "n/access.log").read_text()


async def test_nginx_refuses_in_the_words_of_the_gateway(tmp_path, behind):
    port, gone = free_ports(2)
    with nginx.balancing(
        tmp_path / "n", port, [behind.port, behind.port], requests_per_second=1
    ) as url:
        async with ClientSession(url) as caller:
            large = b"x" * ((90 << 20) + 1)
            async with caller.post("/api/collections/c/faces", data=large) as answer:
                is_problem(answer, await answer.read(), "image_too_large")
            statuses = []
            for _ in range(220):
                async with caller.get("/api/x") as answer:
                    body = await answer.read()
                    statuses.append(answer.status)
            # as many as may come at once, and those of the seconds that this took
            assert statuses[:200] == [200] * 200
            assert statuses[-1] == 429
            is_problem(answer, body, "rate_limited")
    with nginx.balancing(tmp_path / "away", port, [gone, gone]) as url:
        async with ClientSession(url) as caller, caller.get("/api/x") as answer:
            is_problem(answer, await answer.read(), "inference_unavailable")

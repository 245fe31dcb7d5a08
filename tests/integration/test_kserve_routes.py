"""KServe v2 through the gateway, before a Triton whose answers are written down."""

import asyncio
import gzip
import json
import struct
import zlib
from http import HTTPStatus

import pytest

from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import LIMIT, PROBLEM_KEYS, serving
from tests.support.http_triton import HEAD, Script, running
from tests.support.serving import free_ports
from triton_python_backend.contract import PIPELINE

INFER = "/v2/models/face_pipeline/infer"
PHOTO = photo()
ELEMENT = struct.pack("<I", len(PHOTO)) + PHOTO
DOCUMENT = json.dumps(
    {
        "inputs": [
            {
                "name": "IMAGE",
                "shape": [1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(ELEMENT)},
            }
        ]
    }
).encode()
BODY = DOCUMENT + ELEMENT
BINARY = {"Content-Type": "application/octet-stream", HEAD: str(len(DOCUMENT))}


@pytest.fixture
async def upstream():
    script = Script()
    async with running(script) as address:
        yield script, address


@pytest.fixture
async def client(upstream):
    _, address = upstream
    async with serving(FakeInference(), max_image_bytes=LIMIT, triton_http_url=address) as session:
        yield session


async def problem(client, method, path, **more) -> tuple[int, dict, dict]:
    async with client.request(method, path, **more) as response:
        body = await response.json(content_type=None)
        assert response.content_type == "application/problem+json", body
        assert set(body) == PROBLEM_KEYS | {"error"}
        assert body["error"] == body["detail"]
        return response.status, body, dict(response.headers)


async def test_a_request_is_written_anew_and_the_answer_handed_back(upstream, client):
    script, _ = upstream
    script.answer, script.head_bytes = b'{"outputs":[]}\x01\x02\x03', 14
    headers = {**BINARY, "X-Mine": "1", "Cookie": "a=b", "Connection": "close"}
    async with client.post(INFER, data=BODY, headers=headers) as response:
        assert response.status == HTTPStatus.OK
        assert await response.read() == script.answer
        assert response.headers[HEAD] == "14"
        assert response.content_type == "application/octet-stream"
        assert not {"X-Secret", "Keep-Alive"} & set(response.headers)
        assert response.headers["Server"] != "triton"
    assert script.paths == [f"POST {INFER}"]
    [(head, tensors)] = script.infers
    assert tensors == ELEMENT
    assert [each["name"] for each in head["outputs"]] == [each.name for each in PIPELINE.outputs]
    [sent] = script.headers
    assert "Content-Length" in sent
    assert not {"Transfer-Encoding", "X-Mine", "Cookie"} & set(sent)


async def test_a_version_is_asked_for(upstream, client):
    script, _ = upstream
    path = "/v2/models/face_pipeline/versions/3"
    async with client.post(f"{path}/infer", data=BODY, headers=BINARY) as response:
        assert response.status == HTTPStatus.OK
        assert response.content_type == "application/json"
    async with client.get(f"{path}/ready") as response:
        assert await response.json() == {"name": "face_pipeline", "ready": True}
    assert script.paths == [f"POST {path}/infer", f"GET {path}/ready"]


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_bodies_may_be_packed_both_ways(upstream, client, pack):
    script, _ = upstream
    name = "gzip" if pack is gzip.compress else "deflate"
    headers = {**BINARY, "Content-Encoding": name, "Accept-Encoding": name}
    async with client.post(INFER, data=pack(BODY), headers=headers) as response:
        assert response.headers["Content-Encoding"] == name
        assert await response.read() == script.answer
    assert script.infers[0][1] == ELEMENT


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip;q=0", None),
        ("gzip; q=0.000, deflate;q=0.5", "deflate"),
        ("br, GZIP;q=0.1", "gzip"),
        ("x-gzip, identity", None),
    ],
)
async def test_an_answer_is_packed_as_it_may_be(upstream, client, accepted, coding):
    headers = {**BINARY, "Accept-Encoding": accepted}
    async with client.post(INFER, data=BODY, headers=headers) as response:
        assert response.status == HTTPStatus.OK
        assert response.headers.get("Content-Encoding") == coding


async def test_what_is_refused_never_reaches_triton(upstream, client):
    script, _ = upstream
    deep = b'{"inputs":' + b"[" * 40_000 + b"]" * 40_000 + b"}"
    cases = [
        ("invalid_request", deep, {"Content-Type": "application/json"}),
        ("invalid_request", b"", {}),
        ("invalid_request", BODY, {**BINARY, HEAD: "-1"}),
        ("invalid_request", BODY, {**BINARY, HEAD: str(len(BODY) + 1)}),
        ("invalid_request", BODY, {**BINARY, "Content-Encoding": "gzip"}),
        ("unsupported_media_type", BODY, {**BINARY, "Content-Encoding": "br"}),
        ("unsupported_media_type", BODY, {**BINARY, "Content-Type": "text/plain"}),
        ("unsupported_media_type", *_body_with(b"no image")),
        ("image_too_large", bytes(21 << 20), BINARY),
        ("image_too_large", gzip.compress(bytes(21 << 20)), {**BINARY, "Content-Encoding": "gzip"}),
    ]
    for code, body, headers in cases:
        _, answer, _ = await problem(client, "POST", INFER, data=body, headers=headers)
        assert answer["code"] == code, (body[:60], headers)
    for model in ("face_preprocess", "face_pipeline_candidate", "..%2Fhealth"):
        path = f"/v2/models/{model}/infer"
        status, _, _ = await problem(client, "POST", path, data=BODY, headers=BINARY)
        assert status == HTTPStatus.NOT_FOUND
    assert script.paths == []


def _body_with(image: bytes) -> tuple[bytes, dict[str, str]]:
    element = struct.pack("<I", len(image)) + image
    document = DOCUMENT.replace(str(len(ELEMENT)).encode(), str(len(element)).encode())
    return document + element, {**BINARY, HEAD: str(len(document))}


@pytest.mark.parametrize(
    ("status", "text", "code", "said"),
    [
        (400, "in ensemble 'face_pipeline', invalid_image: torn\nline", "invalid_image", "torn"),
        (400, "[request id: 5] in ensemble 'x', too odd\nfile.py", "invalid_request", "too odd"),
        (404, "Request for unknown model: 'm' version 9 is not found", "not_found", "version"),
        (404, "Request for unknown model: 'm' is not found", "inference_unavailable", ""),
        (500, "Stub process is not healthy.", "inference_unavailable", ""),
        (503, "Server exiting", "inference_unavailable", ""),
        (500, "/opt/secret/path.cc failed", "internal", "inference failed"),
        (500, "Non-zero status code returned while running Conv", "invalid_request", "shapes"),
    ],
)
async def test_what_triton_says_leaves_as_a_clean_sentence(
    upstream, client, status, text, code, said
):
    script, _ = upstream
    script.failures = [(status, text)] * 2
    _, answer, headers = await problem(client, "POST", INFER, data=BODY, headers=BINARY)
    assert answer["code"] == code
    assert said in answer["detail"]
    assert not any(word in answer["detail"] for word in ("\n", "secret", "ensemble", "request id"))
    assert ("Retry-After" in headers) == (code == "inference_unavailable")


async def test_a_triton_that_drops_the_line_is_asked_once_more(upstream, client):
    script, _ = upstream
    script.drop = 1
    async with client.post(INFER, data=BODY, headers=BINARY) as response:
        assert response.status == HTTPStatus.OK
    assert len(script.infers) == 2


async def test_without_triton_all_is_503_with_retry_after():
    address = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with serving(FakeInference(), triton_http_url=address) as client:
        for method, path in (
            ("GET", "/v2"),
            ("GET", "/v2/health/live"),
            ("GET", "/v2/health/ready"),
            ("GET", "/v2/models/face_pipeline"),
            ("GET", "/v2/models/face_pipeline/ready"),
            ("POST", INFER),
        ):
            status, answer, headers = await problem(
                client, method, path, data=BODY if method == "POST" else None, headers=BINARY
            )
            assert status == HTTPStatus.SERVICE_UNAVAILABLE
            assert answer["code"] == "inference_unavailable"
            assert headers["Retry-After"] == "2"


async def test_with_triton_elsewhere_its_http_address_has_to_be_given():
    async with serving(FakeInference(), triton_grpc_url="elsewhere:8001") as client:
        _, answer, _ = await problem(client, "GET", "/v2")
    assert answer["code"] == "inference_unavailable"
    assert "AURUM_TRITON_HTTP_URL" in answer["detail"]


async def test_a_client_that_hangs_up_neither_cancels_the_call_nor_frees_its_slot(upstream):
    script, address = upstream
    script.seconds = 2
    settings = {"triton_http_url": address, "max_in_flight": 1}
    async with serving(FakeInference(), **settings) as client:
        call = asyncio.create_task(client.post(INFER, data=BODY, headers=BINARY))
        await asyncio.wait_for(script.called.wait(), 60)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        status, answer, _ = await problem(client, "POST", INFER, data=BODY, headers=BINARY)
        assert status == HTTPStatus.SERVICE_UNAVAILABLE
        assert "waiting" in answer["detail"]
        # the queue is that of all routes
        async with client.post(
            "/api/ml/detect", data=PHOTO, headers={"Content-Type": "image/png"}
        ) as response:
            assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
        async with asyncio.timeout(60):
            while not (script.finished or script.cancelled):
                await asyncio.sleep(0.05)
            assert (script.finished, script.cancelled) == (1, 0)
            script.seconds = 0
            # the slot is free a moment after Triton's answer
            status = None
            while status != HTTPStatus.OK:
                async with client.post(INFER, data=BODY, headers=BINARY) as response:
                    status = response.status


async def test_a_call_that_outlasts_the_deadline_is_a_timeout_and_goes_on(upstream):
    script, address = upstream
    script.seconds = 0.8
    settings = {"triton_http_url": address, "request_timeout_seconds": 0.3}
    async with serving(FakeInference(), **settings) as client:
        status, answer, _ = await problem(client, "POST", INFER, data=BODY, headers=BINARY)
        assert status == HTTPStatus.GATEWAY_TIMEOUT
        assert answer["code"] == "timeout"
        async with asyncio.timeout(60):
            while not (script.finished or script.cancelled):
                await asyncio.sleep(0.05)
    assert (script.finished, script.cancelled) == (1, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/face_pipeline/unload"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/models/face_pipeline/stats"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/a/register"),
        ("POST", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/models/face_pipeline/generate"),
    ],
)
async def test_what_is_not_offered_is_404_with_a_sentence(upstream, client, method, path):
    status, answer, _ = await problem(client, method, path)
    assert status == HTTPStatus.NOT_FOUND
    assert "not offered" in answer["detail"]
    assert upstream[0].paths == []


async def test_other_methods_are_405(client):
    for method, path in (("GET", INFER), ("POST", "/v2"), ("DELETE", "/v2/models/face_pipeline")):
        status, answer, headers = await problem(client, method, path)
        assert status == HTTPStatus.METHOD_NOT_ALLOWED
        assert headers["Allow"] in answer["detail"]


async def test_other_routes_have_no_error_member(client):
    async with client.get("/api/nothing") as response:
        assert set(await response.json(content_type=None)) == PROBLEM_KEYS


async def test_the_server_names_what_is_offered_here(upstream, client):
    upstream[0].answer = json.dumps(
        {"name": "triton", "version": "2", "extensions": ["trace", "binary_tensor_data"]}
    ).encode()
    async with client.get("/v2") as response:
        answer = await response.json()
    assert answer == {"name": "triton", "version": "2", "extensions": ["binary_tensor_data"]}


async def test_without_scoring_no_score_is_shown(upstream):
    script, address = upstream
    names = ["BOXES", "SCORE", "HEAD"]
    script.answer = json.dumps({"outputs": [{"name": name} for name in names]}).encode()
    async with serving(FakeInference(), triton_http_url=address, scoring="off") as client:
        async with client.get("/v2/models/face_pipeline") as response:
            assert await response.json() == {"outputs": [{"name": "BOXES"}]}
        status, _, _ = await problem(client, "GET", "/v2/models/face_scoring")
        assert status == HTTPStatus.NOT_FOUND


async def test_metrics_name_the_route_and_not_the_model(client):
    await problem(client, "POST", "/v2/models/made_up/infer", data=BODY, headers=BINARY)
    async with client.get("/metrics") as response:
        text = await response.text()
    assert 'method="POST",route="/v2/models/{model}/infer",status="404"' in text
    assert "made_up" not in text


# Chunks --------------------------------------------------------------------------------------


async def chunked(client, path, kind, pieces, headers="") -> bytes:
    """Send a body in these pieces; returns the answer."""
    url = client._base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        start = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{headers}"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(start.encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return await asyncio.wait_for(reader.readuntil(b"}"), 60)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (INFER, "application/json"),
        ("/api/ml/detect", "image/png"),
        ("/api/ml/detect", "application/json"),
        ("/api/collections", "application/json"),
    ],
)
async def test_a_million_chunks_are_refused_on_every_route(upstream, client, path, kind):
    answer = await chunked(client, path, kind, [b"1\r\n \r\n" * 10_000] * 100)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"send larger chunks" in answer
    assert upstream[0].paths == []


async def test_no_body_is_no_chunk(upstream, client):
    # aiohttp has one reader for all requests without a body
    for _ in range(2):
        _, answer, _ = await problem(client, "POST", INFER, headers=BINARY)
        assert "the body has 0 bytes" in answer["detail"]


async def test_small_chunks_of_a_small_body_are_taken(upstream, client):
    cut = [BODY[at : at + 7] for at in range(0, len(BODY), 7)]
    pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut]
    headers = f"{HEAD}: {len(DOCUMENT)}\r\n"
    answer = await chunked(client, INFER, "application/octet-stream", pieces, headers)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert upstream[0].infers[0][1] == ELEMENT

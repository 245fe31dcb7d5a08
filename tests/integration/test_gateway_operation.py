"""Around the requests: inference that is not there, ids, logs, metrics, health, load."""

import asyncio
import json
import logging
from http import HTTPStatus

import pytest

from gateway.error_policy import POLICIES
from gateway.errors import AurumError, InferenceUnavailableError, RequestTimeoutError
from gateway.registry.reference import REFERENCE_FILE
from tests.support.fake_inference import SPACE, FakeInference, photo
from tests.support.gateway_server import LIMIT, form, post, refused, serving, sha256
from tests.unit.tools.evaluation.test_references import reference

FACE_ROUTES = ["score", "detect", "embed"]


@pytest.fixture
def fake():
    return FakeInference()


@pytest.fixture
async def client(fake):
    async with serving(fake, max_image_bytes=LIMIT, max_image_megapixels=1) as client:
        yield client


@pytest.mark.parametrize("route", FACE_ROUTES)
async def test_unavailable_inference_says_when_to_come_back(client, fake, route):
    fake.error = InferenceUnavailableError("not there", retry_after_seconds=2)
    status, body, headers = await post(client, route, form(image=photo()))
    assert (status, body["code"]) == (503, "inference_unavailable")
    assert headers["Retry-After"] == "2"


async def test_a_timeout(client, fake):
    fake.error = RequestTimeoutError("too long")
    await refused(client, "detect", "timeout", form(image=photo()))


async def test_an_internal_error_shows_nothing_of_itself(client, fake, caplog):
    fake.error = AurumError("inference failed")
    await refused(client, "detect", "internal", form(image=photo()))
    fake.error = ZeroDivisionError("secret")
    detail = await refused(client, "detect", "internal", form(image=photo()))
    assert "secret" not in detail
    assert any(record.exc_info for record in caplog.records)


async def test_more_than_may_wait_are_refused_at_once(fake):
    fake.seconds = 0.5
    async with serving(fake, max_in_flight=3) as client:
        answers = await asyncio.gather(
            *(post(client, "detect", form(image=photo())) for _ in range(8))
        )
    refusals = [headers for status, _, headers in answers if status == 503]
    assert len(refusals) == 5
    assert all(headers["Retry-After"] == "1" for headers in refusals)
    assert fake.most_active == 3


async def test_a_client_that_hangs_up_frees_the_engine(client, fake):
    fake.seconds = 30
    task = asyncio.ensure_future(post(client, "detect", form(image=photo())))
    await fake.started.wait()
    task.cancel()
    await fake.idle.wait()
    assert fake.cancelled == 1
    async with client.get("/metrics") as response:
        assert 'status="499"' in await response.text()


async def test_a_request_id_is_kept_or_made(client):
    for given in ("abc-123", "x" * 128):
        headers = {"X-Request-ID": given}
        _, body, answered = await post(client, "detect", form(image=photo()), headers=headers)
        assert body["request_id"] == answered["X-Request-ID"] == given
    for given in ("x" * 129, "with blank", "ümlaut", ""):
        headers = {"X-Request-ID": given}
        _, body, answered = await post(client, "detect", form(image=photo()), headers=headers)
        assert body["request_id"] == answered["X-Request-ID"] != given
        assert len(body["request_id"]) == 32


async def test_the_access_log_names_the_request_and_nothing_of_its_body(client, caplog):
    caplog.set_level(logging.INFO)
    _, body, _ = await post(client, "embed", form(image=photo()))
    (record,) = [each for each in caplog.records if each.name == "gateway.access"]
    assert record.request_id == body["request_id"]
    assert (record.method, record.route, record.status) == ("POST", "/api/ml/embed", 200)
    assert (record.tenant, record.caller) == ("default", "anonymous")
    assert all(not isinstance(v, bytes) and len(str(v)) < 300 for v in vars(record).values())


async def test_metrics_count_routes_errors_and_faces(client):
    await post(client, "detect", form(image=photo(faces=3)))
    await post(client, "score", form(image=photo(faces=0)))
    async with client.get("/made/up") as response:
        assert response.status == HTTPStatus.NOT_FOUND
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    for line in (
        'aurum_http_requests_total{method="POST",route="/api/ml/detect",status="200"} 1.0',
        'aurum_http_requests_total{method="POST",route="/api/ml/score",status="422"} 1.0',
        'aurum_http_requests_total{method="GET",route="none",status="404"} 1.0',
        'aurum_errors_total{code="no_face"} 1.0',
        "aurum_faces_found_total 3.0",
        "aurum_http_requests_in_flight 1.0",
        'aurum_inference_seconds_count{engine="triton"} 2.0',
    ):
        assert line in lines


async def test_health(client, fake):
    async with client.get("/api/health/ready") as response:
        assert response.status == HTTPStatus.OK
        body = await response.json()
        assert body["parts"]["face_embedding"] == {
            "status": "ready",
            "detail": "version 1",
            "version": "1",
            "versions": [{"version": "1", "state": "READY", "reason": ""}],
        }
        assert {"triton", "cache", "vectors", "records", "portrait"} <= set(body["parts"])
    fake.unready = {"face_scoring"}
    async with client.get("/api/health/ready") as response:
        assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
        assert "Retry-After" in response.headers
        body = await response.json()
        assert body["status"] == "unready"
        scoring = body["parts"]["face_scoring"]
        assert scoring["detail"] == "version 1: UNAVAILABLE no weights"
        assert scoring["version"] is None
        assert scoring["versions"] == [
            {"version": "1", "state": "UNAVAILABLE", "reason": "no weights"}
        ]
        assert body["parts"]["triton"]["status"] == "ready"
    fake.reachable = False
    async with client.get("/api/health/ready") as response:
        assert (await response.json())["parts"]["triton"]["status"] == "unready"
    async with client.get("/api/health/live") as response:
        assert await response.json() == {"status": "live"}
    async with client.get("/api/ml/models") as response:
        assert response.status == HTTPStatus.SERVICE_UNAVAILABLE


async def test_models_join_the_engine_and_the_sidecars(fake, tmp_path):
    folder = tmp_path / "face_embedding" / "1"
    folder.mkdir(parents=True)
    sidecar = {"id": SPACE, "sha256": "ab", "licence": "MIT", "dimension": 8, "more": 1}
    (folder / "model.json").write_text(json.dumps(sidecar))
    (folder / REFERENCE_FILE).write_text(reference(SPACE).model_dump_json())
    other = tmp_path / "face_scoring" / "1"
    other.mkdir(parents=True)
    (other / "model.json").write_text(json.dumps(sidecar | {"id": "0" * 16}))
    async with (
        serving(fake, model_repository=tmp_path) as client,
        client.get("/api/ml/models") as response,
    ):
        stages = {stage["name"]: stage for stage in (await response.json())["stages"]}
    assert {stage["serving"] for stage in stages.values()} == {"1"}
    (embedding,) = stages["face_embedding"]["versions"]
    assert embedding["reference"] == {
        "photos": "some",
        "faces": 1000,
        "made_at": "2026-01-01T00:00:00+00:00",
    }
    assert (embedding["id"], embedding["sha256"], embedding["space"]) == (SPACE, "ab", SPACE)
    assert (embedding["licence"], embedding["calibration"]) == ("MIT", None)
    (scoring,) = stages["face_scoring"]["versions"]
    assert scoring["reference"] is None
    assert scoring["sha256"] is None, "the sidecar is of other weights than those that answer"
    (detection,) = stages["face_detection"]["versions"]
    assert detection["state"] == "READY"


async def test_the_page_needs_no_other_host(client):
    async with client.get("/api/docs") as response:
        page = await response.text()
        policy = response.headers["Content-Security-Policy"]
    assert "http" not in page
    assert "script-src 'self';" in policy
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js", "favicon-32x32.png"):
        assert f"/api/docs/{name}" in page
        async with client.get(f"/api/docs/{name}") as response:
            assert response.status == HTTPStatus.OK
            assert response.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("..%2Fopenapi.py", "other.js"):
        async with client.get(f"/api/docs/{name}") as response:
            assert response.status == HTTPStatus.NOT_FOUND
    async with client.get("/", allow_redirects=False) as response:
        assert response.headers["Location"] == "/api/docs"


async def test_the_engine_is_closed_with_the_app(fake):
    async with serving(fake):
        assert not fake.closed
    assert fake.closed


async def test_200_mixed_requests_each_get_their_own_answer(client, fake):
    fake.seconds = 0.02

    async def one(number: int):
        kind = number % 5
        headers = {"X-Request-ID": f"r{number}"}
        if kind == 0:
            data = photo(faces=1 + number % 4, seed=number)
            status, body, _ = await post(client, "score", form(image=data), headers=headers)
            assert status == HTTPStatus.OK
            assert body["image"]["sha256"] == sha256(data)
            scores = [round(1 + k + number / 10, 4) for k in range(1 + number % 4)]
            assert [face["score"] for face in body["faces"]] == scores
        else:
            data, code = {
                1: (photo(faces=0, seed=number), "no_face"),
                2: (photo(size=(300, 300), seed=number)[:300], "invalid_image"),
                3: (bytes(LIMIT + number), "image_too_large"),
                4: (b"text %d" % number, "unsupported_media_type"),
            }[kind]
            status, body, _ = await post(client, "score", form(image=data), headers=headers)
            assert body["code"] == code
            assert status == POLICIES[code].status
        assert body["request_id"] == f"r{number}"

    await asyncio.gather(*(one(number) for number in range(200)))

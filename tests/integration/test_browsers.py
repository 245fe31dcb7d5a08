"""What a browser may do: foreign pages, names of others, CORS, and the headers of all answers."""

import pytest

from gateway.app import create_app
from gateway.errors import ConfigurationError
from gateway.security.roles import Role
from gateway.settings import Settings
from tests.support.access import bearer, guarded, managing, new_key
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, serving
from tests.support.raw_http import exchange

LISTED = "https://app.example.com"
FOREIGN = "https://evil.example"
SCORE = "/api/ml/score"
CORS = "Access-Control-Allow-Origin"


@pytest.fixture
async def client():
    async with serving(FakeInference(), cors_origins=LISTED) as opened:
        yield opened


async def status(client, method, path, *, headers, data=None):
    async with client.request(method, path, headers=headers, data=data) as answer:
        body = await answer.json(content_type=None) if answer.status >= 400 else {}
        return answer.status, body.get("code"), answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": FOREIGN},
        {"Origin": "null"},
        {"Origin": f"{LISTED}.evil.example"},
        {"Origin": LISTED.upper()},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_pages_of_elsewhere_do_nothing_while_nobody_needs_a_key(client, headers):
    for method, path in (
        ("POST", SCORE),
        ("GET", "/api/ml/models"),
        ("DELETE", "/api/collections/x"),
        ("GET", "/v2"),
        ("GET", "/metrics"),
    ):
        data = form(image=photo()) if method == "POST" else None
        found, code, answered = await status(client, method, path, headers=headers, data=data)
        assert (found, code) == (403, "forbidden"), path
        assert CORS not in answered


async def test_a_page_is_refused_before_its_body_is_read(client):
    async def never():
        yield b"x"
        raise AssertionError("the body was asked for")

    headers = {"Origin": FOREIGN, "Expect": "100-continue", "Content-Length": "1000"}
    found, code, _ = await status(client, "POST", SCORE, headers=headers, data=never())
    assert (found, code) == (403, "forbidden")


async def test_programs_links_and_own_pages_go_on(client):
    own = {"Origin": str(client._base_url.origin()), "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, own, {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"}):
        sent = form(image=photo())
        assert (await status(client, "POST", SCORE, headers=headers, data=sent))[0] == 200
    for path in ("/api/docs", "/api/health/live"):
        found = await status(client, "GET", path, headers={"Sec-Fetch-Site": "cross-site"})
        assert found[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "169.254.169.254", "a b"])
async def test_a_name_that_was_pointed_at_the_gateway_gets_nothing(client, host):
    for path in ("/api/ml/models", "/api/docs", "/api/health/live", "/nothing"):
        found, code, _ = await status(client, "GET", path, headers={"Host": host})
        assert (found, code) == (403, "forbidden")


async def test_further_names_are_allowed_by_a_setting():
    async with serving(FakeInference(), allowed_hosts="faces.internal") as client:
        headers = {"Host": "faces.internal:80"}
        assert (await status(client, "GET", "/api/ml/models", headers=headers))[0] == 200
        headers["Origin"] = "http://faces.internal:80"
        assert (await status(client, "GET", "/api/ml/models", headers=headers))[0] == 200


async def test_with_keys_pages_are_kept_from_reading_only(tmp_path):
    async with managing(tmp_path) as keys:
        key = bearer(await new_key(keys, Role.INFER))
    async with guarded(tmp_path) as client:
        headers = {**key, "Origin": FOREIGN, "Host": "faces.example.com"}
        found, _, answered = await status(client, "GET", "/api/ml/models", headers=headers)
        assert found == 200
        assert CORS not in answered


async def test_a_listed_page_may_ask_and_read(client):
    preflight = {
        "Origin": LISTED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }
    found, _, headers = await status(client, "OPTIONS", SCORE, headers=preflight)
    assert found == 204
    assert headers[CORS] == LISTED
    assert headers["Access-Control-Allow-Methods"] == "POST"
    assert {"X-API-Key", "Content-Type", "Authorization"} <= set(
        headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "Origin" in headers.getall("Vary")
    # the answer, a refusal and a missing route, so that the page can say why
    for method, path, expected in (
        ("GET", "/api/ml/models", 200),
        ("POST", SCORE, 415),
        ("GET", "/nothing", 404),
    ):
        found, _, headers = await status(client, method, path, headers={"Origin": LISTED})
        assert found == expected
        assert headers[CORS] == LISTED
        readable = headers["Access-Control-Expose-Headers"].split(", ")
        assert {"RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"} <= set(readable)
        assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize(
    ("origin", "method"), [(FOREIGN, "POST"), (LISTED, "DELETE"), ("null", "POST"), ("*", "POST")]
)
async def test_other_preflights_get_no_permission(client, origin, method):
    preflight = {"Origin": origin, "Access-Control-Request-Method": method}
    found, _, headers = await status(client, "OPTIONS", SCORE, headers=preflight)
    assert found == 204
    assert "Access-Control-Allow-Methods" not in headers
    assert headers.get(CORS) in (None, LISTED)
    assert "Origin" in headers.getall("Vary")


async def test_a_preflight_needs_no_key(tmp_path):
    async with guarded(tmp_path, cors_origins=LISTED) as client:
        preflight = {"Origin": LISTED, "Access-Control-Request-Method": "POST"}
        found, _, headers = await status(client, "OPTIONS", SCORE, headers=preflight)
        assert (found, headers[CORS]) == (204, LISTED)
        # a page can read that its key is missing
        found, code, headers = await status(client, "POST", SCORE, headers={"Origin": LISTED})
        assert (found, code, headers[CORS]) == (401, "unauthorized", LISTED)


@pytest.mark.parametrize("setting", [{"cors_origins": "*"}, {"allowed_hosts": "a:80"}])
def test_settings_that_cannot_be_meant_stop_the_start(tmp_path, setting):
    with pytest.raises(ConfigurationError):
        create_app(Settings(home=tmp_path, **setting))


async def test_every_answer_is_protected(client):
    for method, path in (
        ("GET", "/api/ml/models"),
        ("POST", SCORE),
        ("GET", "/nothing"),
        ("PUT", SCORE),
        ("OPTIONS", SCORE),
        ("GET", "/metrics"),
        ("GET", "/"),
        ("GET", "/api/docs"),
        ("GET", "/api/docs/docs.js"),
        ("GET", "/api/health/ready"),
    ):
        async with client.request(method, path, allow_redirects=False) as answer:
            headers = answer.headers
        assert headers["Server"] == "aurum", path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert ("script-src 'self'" in policy) == (path == "/api/docs")
        kept = "max-age=3600" if path.endswith(".js") else "no-store"
        assert kept in headers["Cache-Control"]
        assert "Strict-Transport-Security" not in headers


async def test_bytes_that_are_no_http_get_a_protected_answer(client):
    answer = await exchange(client, [b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    assert answer.status == 400
    assert answer.headers["Server"] == "aurum"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_who_has_no_key_learns_no_address(tmp_path):
    async with managing(tmp_path) as keys:
        key = bearer(await new_key(keys, Role.SEARCH))
    async with guarded(tmp_path) as client:
        for headers in ({}, {"X-API-Key": "aur_wrong"}):
            async with client.get("/api/health/ready", headers=headers) as answer:
                shape = await answer.json()
            assert answer.status == 200
            assert shape["status"] == "ready"
            assert {part["detail"] for part in shape["parts"].values()} == {""}
            assert not any(part.get("versions") for part in shape["parts"].values())
            assert shape["parts"]["triton"]["status"] == "ready"
        async with client.get("/api/health/ready", headers=key) as answer:
            parts = (await answer.json())["parts"]
        assert parts["face_detection"]["versions"]
        assert all(part["detail"] for part in parts.values())

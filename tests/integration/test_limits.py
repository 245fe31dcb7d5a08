"""Limits of keys and of token subjects over HTTP: what is refused, when, and what answers say."""

import asyncio
import json
import re

import pytest
from aiohttp import ClientPayloadError

from gateway.api.jobs import events
from gateway.errors import ConfigurationError
from gateway.records import clock
from gateway.security.roles import Role
from gateway.types import RateLimits
from tests.integration.test_access_tokens import issuer as issuer
from tests.integration.test_authorization import answered_to_the_head
from tests.integration.test_kserve_routes import BINARY, BODY, INFER
from tests.support import redis
from tests.support.access import bearer, guarded, managing, new_key
from tests.support.collection_client import call
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, serving
from tests.support.http_triton import Script, running

MODELS = "/api/ml/models"
DETECT = "/api/ml/detect"
ITEM = re.compile(r'"(\w+)";r=(\d+)(?:;t=(\d+))?')


@pytest.fixture
async def key(tmp_path):
    """A key with all roles and the default limits, as headers."""
    async with managing(tmp_path) as keys:
        return bearer(await new_key(keys, Role.ADMIN))


async def ask(client, key, method="GET", path=MODELS, **sent):
    """Return the status, the body if it is a problem, and the headers of an answer."""
    async with client.request(method, path, headers=key, **sent) as response:
        body = await response.read()
        is_problem = response.content_type == "application/problem+json"
        return response.status, json.loads(body) if is_problem else {}, response.headers


def left(headers):
    """Read what is left of each limit."""
    return {name: int(units) for name, units, _ in ITEM.findall(headers["RateLimit"])}


async def test_every_answer_says_what_is_left_and_the_last_ones_are_429(tmp_path, key):
    async with managing(tmp_path) as keys:
        other = bearer(await new_key(keys, Role.INFER))
    limits = {"key_requests_per_minute": 2, "key_burst": 4}
    async with guarded(tmp_path, **limits) as client:
        _, _, headers = await ask(client, key)
        assert headers["RateLimit-Policy"] == '"requests";q=2;w=60;aurum-burst=4'
        assert left(headers) == {"requests": 3}
        # refusals of other kinds say it, too, and count
        for number, (method, path, status) in enumerate(
            (("GET", "/api/collections/none", 404), ("POST", DETECT, 415), ("HEAD", MODELS, 200))
        ):
            answered, _, headers = await ask(client, key, method, path)
            assert answered == status
            assert left(headers) == {"requests": 2 - number}
        for _ in range(2):
            status, problem, headers = await ask(client, key)
            assert (status, problem["code"]) == (429, "rate_limited")
            assert problem["violated-policies"] == ["requests"]
            assert problem["detail"] == (
                "this key or token may have 2 requests a minute and 4 at once"
            )
            assert left(headers) == {"requests": 0}
            # what the draft asks for: not before the window ends
            seconds = int(ITEM.findall(headers["RateLimit"])[0][2])
            assert 0 < seconds <= int(headers["Retry-After"]) <= 30
        # another key has limits of its own; a health check, a wrong key and no key have none
        assert (await ask(client, other))[0] == 200
        for path, who, status in (
            ("/api/health/live", key, 200),
            (MODELS, {}, 401),
            (MODELS, {"X-API-Key": "aur_x"}, 401),
        ):
            answered, _, headers = await ask(client, who, path=path)
            assert answered == status
            assert "RateLimit" not in headers
        metrics = await (await client.get("/metrics", headers=other)).text()
    assert 'aurum_limit_refusals_total{policy="requests"} 2.0' in metrics


async def test_a_caller_beyond_its_limit_gets_its_429_before_it_sends_a_body(tmp_path, key):
    async with guarded(tmp_path, key_requests_per_minute=1) as client:
        await ask(client, key)
        line = f"Authorization: {key['Authorization']}"
        for path in (DETECT, "/api/ml/score/batch", INFER, "/api/collections/none/faces"):
            for more in ((), ("Expect: 100-continue",)):
                answer = await answered_to_the_head(client, "POST", path, line, *more)
                assert (answer.status, answer.code) == (429, "rate_limited")
                assert answer.before == b""
                assert left(answer.headers) == {"requests": 0}


async def test_a_tenant_without_images_for_today_gets_its_429_before_it_sends_a_body(tmp_path, key):
    async with guarded(tmp_path, tenant_images_per_day=1) as client:
        line = f"Authorization: {key['Authorization']}"
        assert (await ask(client, key, "POST", DETECT, data=form(image=photo())))[0] == 200
        for path in (DETECT, "/api/ml/score/batch", INFER, "/api/collections/none/faces"):
            answer = await answered_to_the_head(client, "POST", path, line)
            assert (answer.status, answer.code) == (429, "rate_limited")
            assert "images a day" in answer.detail
        # what needs no image is answered
        assert (await ask(client, key))[0] == 200


async def test_megapixels_are_charged_by_the_header_and_may_lead_into_debt(tmp_path, key):
    script = Script()
    script.answer, script.head_bytes = b'{"outputs":[]}', 14
    async with (
        running(script) as triton,
        guarded(tmp_path, key_megapixels_per_minute=5, triton_http_url=triton) as client,
    ):
        # of KServe, too: less than a megapixel, of which the fifth is no more whole
        kserve = {"path": INFER, "data": BODY}
        _, _, headers = await ask(client, {**key, **BINARY}, "POST", **kserve)
        assert headers["RateLimit-Policy"] == '"megapixels";q=5;qu="megapixels";w=60'
        assert left(headers) == {"megapixels": 4}
        # an image that is refused costs nothing
        broken = form(image=b"no image")
        status, _, headers = await ask(client, key, "POST", DETECT, data=broken)
        assert (status, left(headers)) == (415, {"megapixels": 4})
        for after in (2, 0, 0):
            large = form(image=photo(size=(2000, 1200)))
            status, _, headers = await ask(client, key, "POST", DETECT, data=large)
            assert (status, left(headers)) == (200, {"megapixels": after})
        # 2.2 megapixels of debt and one to send, of 5 a minute
        for path in (DETECT, INFER, "/api/ml/score/batch"):
            line = f"Authorization: {key['Authorization']}"
            answer = await answered_to_the_head(client, "POST", path, line)
            assert (answer.status, answer.code) == (429, "rate_limited")
            assert json.loads(answer.body)["violated-policies"] == ["megapixels"]
            assert 25 < int(answer.headers["Retry-After"]) <= 39
        assert len(script.infers) == 1
        # who sends no image is answered
        assert (await ask(client, key))[0] == 200


async def test_requests_at_a_time_and_callers_that_hang_up(tmp_path, key):
    engine = FakeInference()
    async with guarded(tmp_path, engine, key_concurrent=2) as client:
        engine.seconds = 5

        async def send():
            return await ask(client, key, "POST", DETECT, data=form(image=photo()))

        first = asyncio.create_task(send())
        await engine.started.wait()
        # the one that asks counts, too
        status, _, headers = await ask(client, key)
        assert status == 200
        assert headers["RateLimit-Policy"] == '"concurrent";q=2;qu="concurrent-requests"'
        assert headers["RateLimit"] == '"concurrent";r=0'
        second = asyncio.create_task(send())
        async with asyncio.timeout(60):
            while engine.most_active < 2:
                await asyncio.sleep(0.01)
        status, problem, headers = await ask(client, key)
        assert (status, problem["violated-policies"]) == (429, ["concurrent"])
        assert headers["Retry-After"] == "1"
        for task in (first, second):
            task.cancel()
        async with asyncio.timeout(60):
            await engine.idle.wait()
            while (await ask(client, key))[0] != 200:
                await asyncio.sleep(0.01)
        engine.seconds = 0
        # one after another there is always room: a place is free before its answer is sent
        for _ in range(20):
            assert (await send())[0] == 200


async def test_limits_of_a_single_key(tmp_path, key):
    path = "/api/admin/keys"
    async with guarded(tmp_path, key_requests_per_minute=10_000, key_burst=5000) as client:
        wanted = {"name": "shop", "roles": ["infer"], "limits": {"requests_per_minute": 1}}
        made = await call(client, "POST", path, status=201, json=wanted, headers=key)
        assert made["limits"] == {
            "requests_per_minute": 1,
            "burst": None,
            "megapixels_per_minute": None,
            "concurrent": None,
        }
        mine = bearer(made["key"])
        assert (await ask(client, mine))[0] == 200
        assert (await ask(client, mine))[0] == 429
        # its successor has the same limits, and counts anew
        again = await call(
            client, "POST", f"{path}/{made['key_id']}/rotate", status=201, json={}, headers=key
        )
        assert again["limits"] == made["limits"]
        assert (await ask(client, bearer(again["key"])))[0] == 200
        assert (await ask(client, bearer(again["key"])))[0] == 429
        # the default of the others
        _, _, headers = await ask(client, key)
        assert headers["RateLimit-Policy"] == '"requests";q=10000;w=60;aurum-burst=5000'
        for wrong in ({"burst": 5}, {"concurrent": 0}, {"requests_per_minute": 10**9}, {"x": 1}):
            wanted = {"name": "shop", "roles": ["infer"], "limits": wrong}
            await call(client, "POST", path, status=400, json=wanted, headers=key)


async def test_gateways_with_one_redis_count_together_and_alone_while_it_is_away(tmp_path, key):
    async with managing(tmp_path) as keys:
        other = bearer(await new_key(keys, Role.INFER))
    with redis.server() as (url, process):
        limits = {"redis_url": url, "key_requests_per_minute": 1, "key_burst": 3}
        # a slow machine must not fail over
        limits |= {"limits_timeout_seconds": 10, "cache": "off"}
        async with guarded(tmp_path, **limits) as one, guarded(tmp_path, **limits) as two:
            found = [(await ask(each, key))[0] for each in (one, two, one, two, one)]
            assert found == [200, 200, 200, 429, 429]
            process.kill()
            process.wait()
            # they go on from what they know
            assert [(await ask(each, key))[0] for each in (one, two)] == [429, 429]
            found = [[(await ask(each, other))[0] for _ in range(4)] for each in (one, two)]
            assert found == [[200, 200, 200, 429]] * 2
    async with managing(tmp_path) as keys:
        other = bearer(await new_key(keys, Role.INFER, limits=RateLimits(100)))
    async with guarded(tmp_path, redis_url=url, cache="off") as client:
        for _ in range(4):
            assert (await ask(client, other))[0] == 200
        metrics = await (await client.get("/metrics", headers=other)).text()
        assert 'aurum_limit_checks_total{store="memory"} 5.0' in metrics
        assert 'aurum_circuit_open{upstream="redis_limits"} 1.0' in metrics


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_of_events_ends_with_its_key(tmp_path, key, how, monkeypatch):
    monkeypatch.setattr(events, "_AUTHORIZED_SECONDS", 0.1)
    async with managing(tmp_path) as keys:
        mine = await new_key(keys, Role.INFER, expires_in_seconds=3600)
    async with guarded(tmp_path, key_concurrent=9) as client:
        sent = {"data": form(images=photo()), "headers": key}
        job = await call(client, "POST", "/api/ml/score/batch", status=202, **sent)
        path = f"/api/ml/jobs/{job['job_id']}/events"
        async with (
            asyncio.timeout(60),
            client.get(path, headers=bearer(mine)) as response,
            client.get(path, headers=key) as other,
        ):
            for each in (response, other):
                assert each.status == 200
                assert "concurrent" in left(each.headers)
                await each.content.readuntil(b"data:")
            if how == "revoked":
                revoke = f"/api/admin/keys/{mine.split('_')[1]}"
                await call(client, "DELETE", revoke, status=200, headers=key)
            else:
                later = clock.now() + 3601
                monkeypatch.setattr(clock, "now", lambda: later)
            with pytest.raises(ClientPayloadError):
                await response.content.read()
            # one whose key is valid goes on
            assert not other.content.at_eof()
            await call(client, "DELETE", path.removesuffix("/events"), status=200, headers=key)
            assert b'"state":"cancelled"' in await other.content.read()
        await call(client, "GET", path, status=401, headers=bearer(mine))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"key_concurrent": 1}, "AURUM_AUTHENTICATION=on"),
        ({"key_burst": 1, "authentication": "on"}, "AURUM_KEY_REQUESTS_PER_MINUTE"),
    ],
)
async def test_limits_that_would_never_apply_are_refused(tmp_path, settings, reason):
    with pytest.raises(ConfigurationError, match=reason):
        async with serving(FakeInference(), home=tmp_path, **settings):
            pass


async def test_limits_of_a_key_change_while_it_is_used(tmp_path, key):
    async with managing(tmp_path) as keys:
        shop = await new_key(keys, Role.INFER)
    path = f"/api/admin/keys/{shop.split('_')[1]}"
    async with guarded(tmp_path) as client:
        status, _, headers = await ask(client, bearer(shop))
        assert (status, "RateLimit" in headers) == (200, False)
        sent = {"json": {"limits": {"requests_per_minute": 1}}, "headers": key}
        changed = await call(client, "PATCH", path, status=200, **sent)
        assert changed["limits"]["requests_per_minute"] == 1
        # at once, although the key was looked up a moment ago
        assert [(await ask(client, bearer(shop)))[0] for _ in range(2)] == [200, 429]
        sent["json"] = {"limits": {"requests_per_minute": 1000}}
        await call(client, "PATCH", path, status=200, **sent)
        assert (await ask(client, bearer(shop)))[0] == 200
        for wrong, status in (
            ({"limits": {"burst": 0}}, 400),
            ({"limits": {"requests_per_minute": None, "burst": 1}}, 400),
            ({"limits": None}, 400),
            ({"roles": ["admin"]}, 400),
        ):
            await call(client, "PATCH", path, status=status, json=wrong, headers=key)
        lines = (await call(client, "GET", "/api/admin/audit", status=200, headers=key))["lines"]
        noted = [each for each in lines if each["action"] == "change_key"]
        assert [each["outcome"] for each in noted] == [*(["invalid_request"] * 4), "ok", "ok"]
        assert noted[-1]["counts"] == {"requests_per_minute": 1}

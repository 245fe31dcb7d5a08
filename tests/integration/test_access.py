"""Keys over HTTP: limited to collections, rotated, revoked; quotas; what no answer may contain."""

import logging

import pytest

from gateway.security.roles import Role
from gateway.settings import Settings
from tests.integration.test_authorization import answered_to_the_head
from tests.support.access import MINE, OTHER, bearer, guarded, managing, new_key
from tests.support.collection_client import call, enrol
from tests.support.fake_inference import photo
from tests.support.gateway_server import form
from tests.support.raw_http import refused

KEYS = "/api/admin/keys"


async def test_a_client_that_never_sends_its_body_gets_its_401(tmp_path):
    async with guarded(tmp_path) as client:
        for lines, challenge in (
            ((), 'Bearer realm="aurum"'),
            (("X-API-Key: aur_x",), 'Bearer realm="aurum", error="invalid_token"'),
        ):
            answer = await answered_to_the_head(client, "POST", "/api/ml/score", *lines)
            refused(answer, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
async def test_a_key_comes_in_either_header(tmp_path, name):
    async with managing(tmp_path) as keys:
        key = await new_key(keys, Role.INFER)
    async with guarded(tmp_path) as client:
        value = f"bearer {key}" if name == "Authorization" else key
        await call(client, "GET", "/api/ml/models", status=200, headers={name: value})
        both = {"Authorization": f"Bearer {key}", "X-API-Key": key}
        answer = await call(client, "GET", "/api/ml/models", status=401, headers=both)
        assert "one key or token" in answer["detail"]


async def test_a_key_limited_to_collections_sees_no_other(tmp_path):
    async with managing(tmp_path) as keys:
        admin = bearer(await new_key(keys, Role.ADMIN))
        roles = (Role.INFER, Role.ENROL, Role.SEARCH, Role.MANAGE)
        limited = bearer(await new_key(keys, *roles, collections=["staff", "later"]))
    async with guarded(tmp_path) as client:
        for name in ("staff", "guests"):
            body = {"name": name}
            await call(client, "POST", "/api/collections", status=201, json=body, headers=admin)
        listed = await call(client, "GET", "/api/collections", status=200, headers=limited)
        assert [each["name"] for each in listed["collections"]] == ["staff"]
        await call(client, "GET", "/api/collections/staff", status=200, headers=limited)
        hidden = await call(client, "GET", "/api/collections/guests", status=404, headers=limited)
        absent = await call(client, "GET", "/api/collections/absent", status=404, headers=limited)
        assert hidden["detail"].replace("guests", "absent") == absent["detail"]
        sent = {"data": form(image=photo()), "headers": limited}
        await call(client, "POST", "/api/collections/guests/faces", status=404, **sent)
        sent = {"data": form(images=photo()), "headers": limited}
        job = "/api/ml/score/batch?operation=enrol&collection="
        await call(client, "POST", f"{job}guests", status=404, **sent)
        body = {"name": "other"}
        await call(client, "POST", "/api/collections", status=403, json=body, headers=limited)
        sent = {"data": form(images=photo()), "headers": limited}
        await call(client, "POST", f"{job}staff", status=202, **sent)
        body = {"name": "later"}
        await call(client, "POST", "/api/collections", status=201, json=body, headers=limited)


async def test_a_key_limited_to_collections_sees_no_job_that_enrols_into_another(tmp_path):
    async with managing(tmp_path) as keys:
        admin = bearer(await new_key(keys, Role.ADMIN))
        roles = (Role.INFER, Role.ENROL)
        limited = bearer(await new_key(keys, *roles, collections=["staff"]))
    async with guarded(tmp_path) as client:
        made = {}
        for name in ("staff", "guests"):
            body = {"name": name}
            await call(client, "POST", "/api/collections", status=201, json=body, headers=admin)
            sent = {"data": form(images=photo()), "headers": admin}
            path = f"/api/ml/score/batch?operation=enrol&collection={name}"
            made[name] = (await call(client, "POST", path, status=202, **sent))["job_id"]
        sent = {"data": form(images=photo()), "headers": admin}
        path = "/api/ml/score/batch?operation=detect"
        made["other"] = (await call(client, "POST", path, status=202, **sent))["job_id"]
        listed = await call(client, "GET", "/api/ml/jobs", status=200, headers=limited)
        assert [each["job_id"] for each in listed["jobs"]] == [made["other"], made["staff"]]
        await call(client, "GET", f"/api/ml/jobs/{made['staff']}", status=200, headers=limited)
        hidden = f"/api/ml/jobs/{made['guests']}"
        for method, path in [
            ("GET", hidden),
            ("GET", f"{hidden}/results"),
            ("GET", f"{hidden}/events"),
            ("POST", f"{hidden}/retry"),
            ("POST", f"{hidden}/pause"),
            ("POST", f"{hidden}/resume"),
            ("DELETE", hidden),
        ]:
            await call(client, method, path, status=404, headers=limited)
        await call(client, "GET", hidden, status=200, headers=admin)


async def test_a_kept_answer_is_not_given_to_a_key_of_other_collections(tmp_path):
    async with managing(tmp_path) as keys:
        admin = bearer(await new_key(keys, Role.ADMIN))
        limited = bearer(await new_key(keys, Role.ENROL, collections=["staff"]))
    async with guarded(tmp_path) as client:
        body, path = {"name": "guests"}, "/api/collections/guests/faces"
        await call(client, "POST", "/api/collections", status=201, json=body, headers=admin)
        once = {"Idempotency-Key": "1"}
        for headers, status in ((admin, 201), (limited, 404)):
            data = form(image=photo(), subject="ada")
            await call(client, "POST", path, status=status, data=data, headers=headers | once)


async def test_the_life_of_a_key_over_http(tmp_path):
    async with managing(tmp_path) as keys:
        admin = bearer(await new_key(keys, Role.ADMIN))
    async with guarded(tmp_path) as client:
        wanted = {"name": "shop", "roles": ["infer"], "expires_in_days": 30}
        async with client.post(KEYS, json=wanted, headers=admin) as response:
            assert response.status == 201
            assert response.headers["Cache-Control"] == "no-store"
            made = await response.json()
        first = bearer(made["key"])
        await call(client, "GET", "/api/ml/models", status=200, headers=first)
        path = f"{KEYS}/{made['key_id']}"
        sent = {"json": {"overlap_hours": 1}, "headers": admin}
        second = await call(client, "POST", f"{path}/rotate", status=201, **sent)
        assert second["replaces"] == made["key_id"]
        assert second["roles"] == ["infer"]
        # both are valid within the overlap
        for key in (first, bearer(second["key"])):
            await call(client, "GET", "/api/ml/models", status=200, headers=key)
        await call(client, "POST", f"{path}/rotate", status=409, **sent)
        await call(client, "DELETE", path, status=200, headers=admin)
        # at once, although it was valid a moment ago
        answer = await call(client, "GET", "/api/ml/models", status=401, headers=first)
        assert "revoked" in answer["detail"]
        listed = await call(client, "GET", KEYS, status=200, headers=admin)
        assert [each["valid"] for each in listed["keys"]] == [True, False, True]
        assert made["key"] not in str(listed)
        lines = (await call(client, "GET", "/api/admin/audit", status=200, headers=admin))["lines"]
        assert [(each["action"], each["outcome"]) for each in lines] == [
            ("list_keys", "ok"),
            ("revoke_key", "ok"),
            ("rotate_key", "conflict"),
            *(("rotate_key", "ok"), ("create_key", "ok"), ("create_key", "ok")),
        ]


async def test_a_wrong_request_for_a_key_is_refused(tmp_path):
    async with managing(tmp_path) as keys:
        admin = bearer(await new_key(keys, Role.ADMIN))
    async with guarded(tmp_path) as client:
        for wrong in (
            {"name": "x", "roles": []},
            {"name": "x", "roles": ["root"]},
            {"name": "", "roles": ["infer"]},
            {"name": "x", "roles": ["infer"], "expires_in_days": 0},
            {"name": "x", "roles": ["infer"], "tenant": OTHER},
            {"name": "x", "roles": ["admin"], "collections": ["staff"]},
        ):
            await call(client, "POST", KEYS, status=400, json=wrong, headers=admin)


async def test_quotas_of_a_tenant(tmp_path):
    async with managing(tmp_path) as keys:
        mine = bearer(await new_key(keys, Role.ADMIN))
        other = bearer(await new_key(keys, Role.ADMIN, tenant=OTHER))
    limits = {"tenant_max_collections": 1, "tenant_max_faces": 1, "tenant_images_per_day": 4}
    async with guarded(tmp_path, **limits) as client:
        client.headers.update(mine)
        body = {"name": "people"}
        await call(client, "POST", "/api/collections", status=201, json=body)
        answer = await call(client, "POST", "/api/collections", status=403, json={"name": "more"})
        assert "quota of 1 collections" in answer["detail"]
        path = "/api/collections/people"
        await enrol(client, path, 1, "ada")
        data = form(image=photo(seed=2), subject="bob")
        answer = await call(client, "POST", f"{path}/faces", status=403, data=data)
        assert "quota of 1 faces" in answer["detail"]
        # the same face again adds none
        data = form(image=photo(seed=1), subject="ada")
        await call(client, "POST", f"{path}/faces", status=200, data=data)
        await call(client, "POST", "/api/ml/detect", status=200, data=form(image=photo()))
        async with client.post("/api/ml/detect", data=form(image=photo())) as response:
            assert response.status == 429
            assert 0 < int(response.headers["Retry-After"]) <= 86_401
        # one image of a job is one image; a job that is too much leaves nothing
        data = form(images=photo())
        await call(client, "POST", "/api/ml/score/batch", status=429, data=data)
        assert (await call(client, "GET", "/api/ml/jobs", status=200))["jobs"] == []
        client.headers.update(other)
        await call(client, "POST", "/api/ml/detect", status=200, data=form(image=photo()))
    # what was counted is written at the end, and holds after a restart
    async with guarded(tmp_path, **limits) as client:
        data = form(image=photo())
        await call(client, "POST", "/api/ml/detect", status=429, data=data, headers=mine)


async def test_metrics_and_documents_by_setting(tmp_path):
    async with managing(tmp_path) as keys:
        any_role = bearer(await new_key(keys, Role.SEARCH))
    async with guarded(tmp_path, docs_access="key") as client:
        for path in ("/metrics", "/api/docs", "/api/openapi.json"):
            for headers, status in (({}, 401), (any_role, 200)):
                async with client.get(path, headers=headers) as response:
                    assert response.status == status, path
    async with guarded(tmp_path, metrics_access="public") as client:
        for path in ("/metrics", "/api/docs", "/api/openapi.json", "/api/health/ready"):
            async with client.get(path) as response:
                assert response.status == 200


async def test_the_document_says_how_to_authenticate(tmp_path):
    async with guarded(tmp_path) as client:
        document = await call(client, "GET", "/api/openapi.json", status=200)
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "bearer"}
    score = document["paths"]["/api/ml/score"]["post"]
    assert score["security"] == [{"apiKey": []}, {"bearer": []}]
    assert {"401", "403", "429"} <= set(score["responses"])
    assert "security" not in document["paths"]["/api/health/live"]["get"]


async def test_no_secret_is_in_logs_and_answers(tmp_path, caplog):
    async with managing(tmp_path) as keys:
        key = await new_key(keys, Role.INFER)
    secret = key.split("_")[2]
    cut, unknown = key[:-3], "aur_" + "0" * 12 + key[16:]
    caplog.set_level(logging.DEBUG)
    async with guarded(tmp_path) as client:
        for text in (key, cut, unknown, f"Basic {key}"):
            for name, value in (("X-API-Key", text), ("Authorization", text)):
                async with client.get("/api/collections", headers={name: value}) as response:
                    assert response.status in (401, 403)
                    assert secret not in await response.text()
        # ids of requests are logged, and stored in the audit log
        async with client.get("/api/health/live", headers={"X-Request-ID": key}) as response:
            assert response.headers["X-Request-ID"] != key
    assert caplog.records
    assert secret not in caplog.text
    assert secret not in str([record.__dict__ for record in caplog.records])
    pepper = (tmp_path / "keys" / "api-keys.pepper").read_text().split()[1]
    assert pepper not in str([record.__dict__ for record in caplog.records])
    stored = (tmp_path / "records.sqlite3").read_bytes()
    assert secret.encode() not in stored


async def test_tools_of_this_machine_have_a_key_of_their_own(tmp_path):
    async with guarded(tmp_path) as client:
        file = tmp_path / "keys" / "local.key"
        assert file.stat().st_mode & 0o077 == 0
        local = bearer(file.read_text().strip())
        await call(client, "GET", "/api/ml/models/candidate", status=200, headers=local)
        await call(client, "GET", "/api/collections", status=403, headers=local)


def test_settings_name_no_secret():
    settings = Settings(api_key="aur_secret", home="/nowhere")
    assert "aur_secret" not in repr(settings)


async def test_last_use_is_written_at_the_end(tmp_path):
    async with managing(tmp_path) as keys:
        key = bearer(await new_key(keys, Role.INFER))
        async with guarded(tmp_path) as client:
            await call(client, "GET", "/api/ml/models", status=200, headers=key)
            (record,) = await keys.page(tenant=MINE, limit=10)
            assert record.last_used_at is None
        (record,) = await keys.page(tenant=MINE, limit=10)
        assert record.last_used_at is not None

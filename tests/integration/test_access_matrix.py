"""Every route as every kind of caller, compared with the matrix of docs/security.md."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession

from gateway.api.route import Route
from gateway.api.table import ROUTES
from gateway.security.roles import Role
from tests.support.access import OTHER, Keys, bearer, guarded, make_keys
from tests.support.collection_client import call
from tests.support.fake_inference import photo
from tests.support.gateway_server import form
from tests.support.http_triton import Script, running
from tools.reference_docs.access_matrix import (
    FORBIDDEN,
    HEAD,
    HIDDEN,
    OWN,
    UNAUTHORIZED,
    YES,
    cells,
)

TRITON = {
    **{"name": "m", "version": "1", "extensions": [], "versions": ["1"], "platform": ""},
    **{"inputs": [], "outputs": [], "model_name": "m", "model_version": "1"},
}
REFUSED = {401: UNAUTHORIZED, 403: FORBIDDEN}
BATCH = "/api/ml/score/batch"
COLLECTION = "/api/collections/people"
LIST = f"{COLLECTION}/do-not-enrol"
ADA = {"people": [{"collection": "people", "subject": "ada"}]}


@dataclass(slots=True)
class World:
    """What a tenant has, renewed after each request that takes something away."""

    client: ClientSession
    admin: dict[str, str]
    face_id: str = ""
    key_id: str = ""
    job_id: str = ""
    entry_id: str = ""

    async def restore(self) -> None:
        async with self.client.post(
            "/api/collections", json={"name": "people", "keep": "crop"}, headers=self.admin
        ) as response:
            assert response.status in (201, 409)
        data = form(image=photo(), subject="ada")
        async with self.client.post(
            f"{COLLECTION}/faces", data=data, headers=self.admin
        ) as response:
            assert response.status in (200, 201), await response.text()
            self.face_id = (await response.json())["faces"][0]["face_id"]
        key = {"name": "of a test", "roles": ["infer"]}
        made = await call(
            self.client, "POST", "/api/admin/keys", status=201, json=key, headers=self.admin
        )
        self.key_id = made["key_id"]
        # of another face: the first one is to be enrolled
        refused = {"data": form(image=photo(seed=5)), "headers": self.admin}
        listed = await call(self.client, "POST", LIST, status=201, **refused)
        self.entry_id = listed["entries"][0]["entry_id"]
        sent = {"data": form(images=photo()), "headers": self.admin}
        job = await call(self.client, "POST", BATCH, status=202, **sent)
        self.job_id = job["job_id"]

    def path(self, route: Route) -> str:
        path = route.path.replace("docs/{name}", "docs/docs.js").replace("{name}", "people")
        for name, value in {
            "face_id": self.face_id,
            "key_id": self.key_id,
            "subject": "ada",
            "model": "face_pipeline",
            "version": "1",
            "job_id": self.job_id,
            "entry_id": self.entry_id,
        }.items():
            path = path.replace(f"{{{name}}}", value)
        assert "{" not in path
        return path


def body_of(route: Route, tenant: str) -> dict[str, Any]:
    """A body that the route accepts, as far as that needs no file."""
    if route.path == "/api/collections" and route.method == "POST":
        return {"json": {"name": f"made-by-{tenant}-{len(route.path)}"}}
    if route.path == "/api/admin/keys" and route.method == "POST":
        return {"json": {"name": "made by a test", "roles": ["infer"]}}
    if route.path.endswith("/subjects/find"):
        return {"json": {"subject": "ada"}}
    if route.path.endswith(("/subjects/export", "/subjects/erase")):
        return {"json": ADA}
    if route.path.endswith("/do-not-enrol") and route.method == "POST":
        return {"data": form(image=photo(seed=6))}
    if route.path.endswith(("/score", "/detect", "/embed", "/faces", "/search")):
        return {"data": form(image=photo())} if route.method == "POST" else {}
    if route.path == BATCH:
        return {"data": form(images=photo())}
    if route.path.endswith("/verify"):
        return {"data": form(image_a=photo(), image_b=photo())}
    if route.path.endswith("/migrate"):
        return {"json": {"action": "finish"}}
    return {"json": {}} if route.method in ("POST", "PATCH") else {}


async def ask(
    client: ClientSession, world: World, route: Route, key: str | None, tenant: str
) -> tuple[int, str]:
    headers = {} if key is None else bearer(key)
    async with client.request(
        route.method,
        world.path(route),
        headers=headers,
        allow_redirects=False,
        **body_of(route, tenant),
    ) as response:
        # the events of a job that waits for a worker do not end
        endless = route.path.endswith("/events") and response.status == 200
        text = "" if endless else await response.text(errors="replace")
        if response.status == 401:
            assert response.headers["WWW-Authenticate"].startswith('Bearer realm="aurum"')
            assert json.loads(text)["code"] == "unauthorized"
        if response.status == 403:
            assert json.loads(text)["code"] == "forbidden"
        return response.status, text


async def row(client: ClientSession, world: World, route: Route, keys: Keys) -> tuple[str, ...]:
    """What each caller gets, as `access_matrix.cells` has it."""
    found = []
    refused = {(await ask(client, world, route, key, "nobody"))[0] for key in keys.refused.values()}
    assert len(refused) == 1, refused
    status, text = await ask(client, world, route, keys.other, OTHER)
    about = text.partition('"detail"')[2] or text
    # nothing of the first tenant is in what the other one gets, not even in a refusal
    mine = (world.face_id, world.key_id, world.job_id, world.entry_id)
    assert status >= 400 or not [each for each in mine if each in about], (route.path, text)
    others = REFUSED.get(status, HIDDEN if status == 404 and "{" in route.path else YES)
    for role in Role:
        status, _ = await ask(client, world, route, keys.mine[role], "acme")
        assert status < 500 or "migrate" in route.path, (route.path, role, status)
        assert status != 404 or "clusters" in route.path, route.path
        found.append(REFUSED.get(status, YES))
        takes_away = "{" in route.path or route.path.endswith("/erase")
        if status < 300 and route.method != "GET" and takes_away:
            await world.restore()
    found.append(REFUSED.get(refused.pop(), YES))
    if others == YES and cells(route)[-1] == OWN:
        others = OWN
    return (*found, others)


async def test_every_route_answers_each_caller_as_documented(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = await make_keys(tmp_path, monkeypatch)
    script = Script(answer=json.dumps(TRITON).encode())
    table = [HEAD]
    async with (
        running(script) as address,
        guarded(
            tmp_path,
            triton_http_url=address,
            log_level="error",
            webhook_hosts="hooks.example.com",
            webhook_secret="the secret of webhooks",
        ) as client,
    ):
        world = World(client, bearer(keys.admin))
        await world.restore()
        for route in ROUTES:
            found = await row(client, world, route, keys)
            table.append((f"{route.method} {route.path}", route.permission, *found))
            assert found == cells(route), f"{route.method} {route.path}"
    widths = [max(len(each[column]) for each in table) for column in range(len(HEAD))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


async def test_lists_show_the_own_tenant_only(tmp_path, monkeypatch) -> None:
    keys = await make_keys(tmp_path, monkeypatch)
    async with guarded(tmp_path) as client:
        mine, other = bearer(keys.admin), bearer(keys.other)
        world = World(client, mine)
        await world.restore()
        await call(client, "DELETE", f"{COLLECTION}/subjects/ada", status=200, headers=mine)
        for path in ("/api/collections", "/api/admin/keys", "/api/admin/audit"):
            own = await call(client, "GET", path, status=200, headers=mine)
            assert re.search("people|acme|forget_subject", json.dumps(own)), path
            others = await call(client, "GET", path, status=200, headers=other)
            assert not re.search("people|acme|forget_subject", json.dumps(others)), path
        # the same name in another tenant is another collection
        body = {"name": "people"}
        await call(client, "POST", "/api/collections", status=201, json=body, headers=other)
        listed = await call(client, "GET", f"{COLLECTION}/faces", status=200, headers=other)
        assert listed["faces"] == []

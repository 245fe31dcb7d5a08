"""Callers without a permission are refused from the head of their request alone."""

import asyncio
from collections.abc import Mapping

import pytest

from gateway.api.auth import Permission, public_permissions
from gateway.api.table import ROUTES
from gateway.errors import AurumError, ForbiddenError, UnauthorizedError
from gateway.settings import Settings
from gateway.types import Caller
from tests.support.collection_client import Embedder, call
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, serving
from tests.support.raw_http import Answer, connect, filled, head, parse, refused

_PUBLIC = public_permissions(Settings())
GUARDED = [route for route in ROUTES if route.permission not in _PUBLIC]
OPEN = [route for route in ROUTES if route.permission in _PUBLIC]
REFUSALS = [UnauthorizedError("no key"), ForbiddenError("not with this key")]


class Keys:
    """Refuses, or resolves the caller that the header `X-Key` names."""

    def __init__(self, refusal: AurumError | None = None) -> None:
        self.refusal = refusal
        self.asked: list[Permission] = []

    async def authorize(self, headers: Mapping[str, str], permission: Permission) -> Caller:
        self.asked.append(permission)
        if self.refusal is not None:
            raise self.refusal
        return Caller(tenant=headers["x-key"], name="tester")


async def answered_to_the_head(client, method: str, path: str, *lines: str) -> Answer:
    """Announce a body that never comes, and read the answer."""
    reader, writer = await connect(client)
    try:
        writer.write(head(method, path, "Content-Type: image/png", *lines, length=1000))
        async with asyncio.timeout(60):
            start = await reader.readuntil(b"\r\n\r\n")
            length = parse(start).headers["Content-Length"]
            return parse(start + await reader.readexactly(int(length)))
    finally:
        writer.close()


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: error.code)
async def test_a_refused_caller_gets_a_problem_before_its_body_is_read(refusal):
    keys, engine = Keys(refusal), FakeInference()
    async with serving(engine, Embedder(), authorizer=keys) as client:
        for route in GUARDED:
            for lines in ((), ("Expect: 100-continue",)):
                answer = await answered_to_the_head(
                    client, route.method, filled(route.path), *lines
                )
                assert refused(answer, refusal.code) == refusal.detail, route.path
                assert answer.before == b"", route.path
    assert keys.asked == [route.permission for route in GUARDED for _ in range(2)]
    assert engine.needs == []


async def test_public_routes_ask_nobody():
    keys = Keys(ForbiddenError("not with this key"))
    async with serving(FakeInference(), Embedder(), authorizer=keys) as client:
        for route in OPEN:
            for method in ("GET", "HEAD"):
                path = filled(route.path)
                async with client.request(method, path, allow_redirects=False) as response:
                    assert response.status in (200, 307), route.path
    assert keys.asked == []


async def test_paths_without_a_route_answer_as_ever():
    async with serving(
        FakeInference(), Embedder(), authorizer=Keys(UnauthorizedError("no key"))
    ) as client:
        await call(client, "GET", "/api/none", status=404)
        await call(client, "DELETE", "/api/ml/score", status=405)


async def test_the_resolved_caller_owns_what_it_makes():
    async with serving(FakeInference(), Embedder(), authorizer=Keys()) as client:
        body, path = {"name": "people"}, "/api/collections/people"
        mine, other = {"X-Key": "a"}, {"X-Key": "b"}
        await call(client, "POST", "/api/collections", status=201, json=body, headers=mine)
        await call(client, "GET", path, status=200, headers=mine)
        await call(client, "GET", path, status=404, headers=other)
        await call(client, "POST", "/api/collections", status=201, json=body, headers=other)


async def test_head_needs_the_permission_of_get():
    keys = Keys()
    async with (
        serving(FakeInference(), Embedder(), authorizer=keys) as client,
        client.head("/api/ml/models", headers={"X-Key": "a"}) as response,
    ):
        assert response.status == 200
    assert keys.asked == [Permission.INFER]


async def test_without_an_authorizer_everybody_may_do_everything():
    async with serving(FakeInference(), Embedder()) as client:
        await call(client, "POST", "/api/ml/detect", status=200, data=form(image=photo()))

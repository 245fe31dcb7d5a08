"""What a route must declare, and that the table and its handlers agree."""

from typing import Any, get_args, get_type_hints

import pytest

from gateway.api.auth import Permission
from gateway.api.body import BodySpec
from gateway.api.route import Route
from gateway.api.shapes import NoOptions
from gateway.api.table import ROUTES

BY_SETTING = {
    "/metrics": Permission.METRICS,
    "/api/openapi.json": Permission.DOCS,
    "/api/docs": Permission.DOCS,
    "/api/docs/{name}": Permission.DOCS,
}
PUBLIC = {"/", "/api/health/live", "/api/health/ready"}


async def handler(call: Any) -> Any:
    raise AssertionError("not called")


DECLARED = {
    "method": "GET",
    "path": "/x",
    "handler": handler,
    "permission": Permission.INFER,
    "tag": "x",
    "summary": "x",
    "description": "x",
    "responses": {200: None},
}


def test_a_route_without_a_permission_cannot_be_declared():
    assert Route(**DECLARED).permission is Permission.INFER
    with pytest.raises(TypeError, match="permission"):
        Route(**{key: value for key, value in DECLARED.items() if key != "permission"})
    with pytest.raises(TypeError, match="positional"):
        Route(*DECLARED.values())


def test_an_unknown_permission_cannot_be_made():
    with pytest.raises(ValueError, match="root"):
        Permission("root")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_declares_a_permission(route):
    assert isinstance(route.permission, Permission)
    assert (route.permission is Permission.PUBLIC) == (route.path in PUBLIC)
    expected = BY_SETTING.get(route.path, route.permission)
    assert route.permission is expected
    if route.path.startswith("/v2"):
        assert route.permission is Permission.INFER
    assert (route.permission is Permission.ADMIN) == route.path.startswith("/api/admin/")
    if route.method == "DELETE" and route.path.startswith("/api/collections/"):
        assert route.permission is Permission.MANAGE


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_handlers_take_what_their_route_declares(route):
    options, fields = get_args(get_type_hints(route.handler)["call"])
    spec = route.fields
    assert fields is (spec.shape if isinstance(spec, BodySpec) else NoOptions)
    assert options is (route.options or NoOptions)

"""Every route that changes or reads what is stored about people writes an audit line."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.api.auth import Permission
from gateway.api.route import Route
from gateway.api.table import ROUTES
from gateway.records.database import Database
from gateway.records.factory import open_records
from gateway.records.types import AuditLine
from gateway.settings import Settings
from tests.support.access import MINE, bearer, guarded, managing, new_key

PERSONAL = {Permission.SEARCH, Permission.ENROL, Permission.MANAGE, Permission.ADMIN}
NOTHING_PERSONAL = {
    # names, settings and numbers of collections; states and numbers of jobs
    ("GET", "/api/collections"),
    ("GET", "/api/collections/{name}"),
    ("GET", "/api/ml/jobs"),
    ("GET", "/api/ml/jobs/{job_id}"),
}
AUDITED = [route for route in ROUTES if route.audit is not None]


def is_personal(route: Route) -> bool:
    is_job = route.path.startswith(("/api/ml/jobs", "/api/ml/score/batch"))
    return (route.permission in PERSONAL or is_job) and (
        (route.method, route.path) not in NOTHING_PERSONAL
    )


def test_every_route_that_concerns_people_is_recorded() -> None:
    personal = {(route.method, route.path) for route in ROUTES if is_personal(route)}
    assert personal == {(route.method, route.path) for route in AUDITED}
    for route in AUDITED:
        assert route.audit is not None
        assert re.fullmatch(r"[a-z_]{1,32}", route.audit.action)
        assert (route.audit.kind in ("read", "stream")) == (
            route.method == "GET" or route.path.endswith(("/search", "/find"))
        )
    actions = [route.audit.action for route in AUDITED if route.audit]
    assert len(set(actions)) == len(actions)


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
async def admin(home: Path) -> AsyncIterator[dict[str, str]]:
    async with managing(home) as keys:
        yield bearer(await new_key(keys, "admin"))


async def lines_of(home: Path) -> list[AuditLine]:
    """All lines but those of making keys, oldest first."""
    records = await open_records(Settings(home=home))
    try:
        found = await records.audit.latest(tenant=MINE, limit=100)
    finally:
        await records.close()
    return [line for line in reversed(found) if line.actor != "test"]


async def test_each_of_them_writes_its_line(home: Path, admin: dict[str, str]) -> None:
    """With things that do not exist, and bodies that are none: also what fails is recorded."""
    async with guarded(home, workers=0) as client:
        client.headers.update(admin)
        for route in AUDITED:
            assert route.audit is not None
            path = route.path.replace("{name}", "nobody").replace("{job_id}", "0" * 36)
            path = re.sub(r"\{[a-z_]+\}", "0" * 8, path)
            body = b"?" if route.method in ("POST", "PATCH") else None
            async with client.request(
                route.method, path, data=body, headers={"X-Request-ID": route.audit.action}
            ) as answer:
                answered = answer.status
            noted = [line for line in await lines_of(home) if line.request_id == route.audit.action]
            assert noted, f"{route.method} {route.path} answered {answered} without a line"
            line = noted[-1]
            assert line.action == route.audit.action
            assert line.actor.startswith("key:")
            assert (line.outcome == "ok") == (answered < 400)
            assert line.collection == ("nobody" if "{name}" in route.path else None)


async def test_lines_say_who_did_what_and_not_to_whom(home: Path, admin: dict[str, str]) -> None:
    async with guarded(home, workers=0) as client:
        client.headers.update(admin)
        async with client.post("/api/collections", json={"name": "people"}) as answer:
            assert answer.status == 201
        vector = [1.0, *[0.0] * 511]
        face = {
            "embedding": vector,
            "space": "00000000000000a1",
            "subject": "Secret Name",
            "metadata": {"team": "hidden"},
        }
        async with client.post("/api/collections/people/faces", json=face) as answer:
            assert answer.status == 201, await answer.text()
        probe = {"embedding": vector, "space": "00000000000000a1"}
        async with client.post("/api/collections/people/search", json=probe) as answer:
            assert answer.status == 200
        async with client.delete("/api/collections/people/subjects/Secret%20Name") as answer:
            assert answer.status == 200
        lines = await lines_of(home)
        assert [(line.action, line.collection, line.outcome) for line in lines] == [
            ("create_collection", "people", "ok"),
            ("enrol_faces", "people", "ok"),
            ("search_faces", "people", "ok"),
            ("forget_subject", "people", "ok"),
        ]
        assert lines[-1].counts["faces"] == 1
        assert "Secret" not in str(lines)
        assert "hidden" not in str(lines)


async def test_a_caller_without_the_role_is_recorded_before_its_body_is_read(home: Path) -> None:
    async with managing(home) as keys:
        headers = bearer(await new_key(keys, "search"))
    async with guarded(home, workers=0) as client:
        async with client.delete("/api/collections/people", headers=headers) as answer:
            assert answer.status == 403
        async with client.delete("/api/collections/people") as answer:
            assert answer.status == 401
    (line,) = await lines_of(home)
    assert (line.action, line.outcome) == ("forget_collection", "forbidden")
    assert line.collection == "people"
    assert headers["Authorization"].split("_")[1] in line.actor


async def test_reads_may_be_left_out(home: Path, admin: dict[str, str]) -> None:
    async with guarded(home, workers=0, audit_reads="off") as client:
        client.headers.update(admin)
        async with client.post("/api/collections", json={"name": "people"}) as answer:
            assert answer.status == 201
        async with client.get("/api/collections/people/faces") as answer:
            assert answer.status == 200
    assert [line.action for line in await lines_of(home)] == ["create_collection"]


async def test_without_its_line_nothing_is_shown(
    home: Path, admin: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded(home, workers=0) as client:
        client.headers.update(admin)
        async with client.post("/api/collections", json={"name": "people"}) as answer:
            assert answer.status == 201
        async with client.get("/api/collections/people/faces") as answer:
            assert answer.status == 200

        def refuse(self: Database, **_: float) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("gateway.records.audit._lock", refuse)
        async with client.get("/api/collections/people/faces") as answer:
            assert answer.status == 507
            assert "faces" not in await answer.text()


async def test_a_gateway_anchors_its_log(home: Path, admin: dict[str, str]) -> None:
    async with guarded(home, workers=0) as client:
        client.headers.update(admin)
        async with client.post("/api/collections", json={"name": "people"}) as answer:
            assert answer.status == 201
    records = await open_records(Settings(home=home))
    try:
        head = await records.audit.head()
    finally:
        await records.close()
    assert f'"line":{head.line},"hash":"{head.hash}"' in (home / "audit.anchor").read_text()

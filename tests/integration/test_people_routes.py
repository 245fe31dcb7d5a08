"""People's rights over HTTP: consent, find, export, erase, do-not-enrol lists."""

import asyncio
import io
import json
import logging
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from gateway.records.job_erasure import ErasedItems, JobErasure
from gateway.types import Analysis
from tests.integration.test_enrol_jobs import enrol_all
from tests.support.access import bearer, guarded, managing, new_key
from tests.support.collection_client import Embedder, call, enrol, found, make
from tests.support.fake_inference import SPACE, FakeInference, photo
from tests.support.gateway_server import form, serving
from tests.support.job_worker import JobEngine

CONSENT = {"reference": "form 4711", "given_at": "2026-01-01T12:00:00Z"}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    embedder = Embedder()
    async with (
        serving(FakeInference(), embedder, home=tmp_path, job_engine=JobEngine()) as session,
        asyncio.timeout(120),
    ):
        yield session


def at(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat()


def another(seed: int) -> bytes:
    """Another photo of the same person: other bytes, the same face."""
    return photo(seed=seed, size=(220, 140))


async def refused(client: aiohttp.ClientSession, at: str, seed: int, code: str, **more: str) -> str:
    data = form(image=photo(seed=seed), **more)
    problem = await call(client, "POST", f"{at}/faces", status=409, data=data)
    assert problem["code"] == code
    return str(problem["detail"])


async def audit(client: aiohttp.ClientSession) -> list[dict[str, Any]]:
    return list((await call(client, "GET", "/api/admin/audit", status=200))["lines"])


async def test_a_collection_that_requires_consent(client: aiohttp.ClientSession) -> None:
    people = await make(client, requires_consent=True)
    await refused(client, people, 1, "consent_required", subject="ada")
    ended = json.dumps({**CONSENT, "expires_at": "2026-02-01T00:00:00Z"})
    await refused(client, people, 1, "consent_required", subject="ada", consent=ended)
    await refused(client, people, 1, "consent_required")
    embedding = {"space": SPACE, "embedding": [1.0] + [0.0] * 7, "subject": "ada"}
    problem = await call(client, "POST", f"{people}/faces", status=409, json=embedding)
    assert problem["code"] == "consent_required"
    assert (await call(client, "GET", people, status=200))["faces"] == 0

    given = {"consent": json.dumps(CONSENT), "purpose": "the door"}
    await enrol(client, people, 1, "ada", **given)
    # the second photo needs none: the subject has one
    await call(
        client, "POST", f"{people}/faces", status=201, data=form(image=another(1), subject="ada")
    )
    shown = await call(client, "GET", f"{people}/subjects/ada", status=200)
    assert shown["purpose"] == "the door"
    assert shown["consent"] == {
        "reference": "form 4711",
        "given_at": "2026-01-01T12:00:00.000Z",
        "expires_at": None,
        "withdrawn_at": None,
    }
    for wrong in (
        {"reference": "x"},
        {**CONSENT, "given_at": "2026-01-01T12:00:00"},
        {**CONSENT, "given_at": 1767268800},
        {**CONSENT, "given_at": "soon"},
        {**CONSENT, "reference": "x" * 201},
        {**CONSENT, "text": "I agree"},
        {**CONSENT, "withdrawn_at": at(days=1)},
    ):
        body = {"consent": wrong}
        await call(client, "PATCH", f"{people}/subjects/ada", status=400, json=body)


async def test_a_withdrawn_consent_ends_the_faces(client: aiohttp.ClientSession) -> None:
    people = await make(client, requires_consent=True)
    consent = {"consent": json.dumps(CONSENT)}
    await enrol(client, people, 1, "ada", **consent)
    await enrol(client, people, 2, "bert", **consent)
    path = f"{people}/subjects/ada"
    problem = await call(client, "PATCH", path, status=409, json={"consent": None})
    assert problem["code"] == "consent_required"

    # a later end, then an earlier one: the faces follow
    for end in (at(days=2), at(days=1)):
        body = {"consent": {**CONSENT, "expires_at": end}}
        await call(client, "PATCH", path, status=200, json=body)
        faces = await call(client, "GET", f"{people}/faces?subject=ada", status=200)
        assert faces["faces"][0]["expires_at"][:19] == end[:19]

    withdrawn = {"consent": {**CONSENT, "withdrawn_at": at()}}
    assert (await call(client, "PATCH", path, status=200, json=withdrawn))["faces"] == 0
    assert await found(client, people, 1) == []
    assert await found(client, people, 2) == ["bert"]
    await call(client, "GET", path, status=404)
    # it is withdrawn for good; another one may be given
    await refused(client, people, 1, "consent_required", subject="ada", **consent)
    new = json.dumps({**CONSENT, "reference": "form 4712"})
    await enrol(client, people, 1, "ada", consent=new)
    assert "withdraw_consent" in [line["action"] for line in await audit(client)]


async def test_the_log_names_nobody(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    people = await make(client)
    with caplog.at_level(logging.INFO):
        await enrol(client, people, 1, "ada-lovelace")
        await call(client, "GET", f"{people}/subjects/ada-lovelace", status=200)
        body = {"people": [{"collection": "people", "subject": "ada-lovelace"}]}
        await call(client, "POST", "/api/subjects/erase", status=200, json=body)
        await call(client, "DELETE", f"{people}/subjects/ada-lovelace", status=404)
        # no route
        await call(client, "POST", f"{people}/subjects/ada-lovelace", status=405)
        await call(client, "GET", f"{people}/subjects/ada-lovelace/faces", status=404)
    requests = [record.__dict__ for record in caplog.records if record.message == "request"]
    assert len(requests) >= 4
    assert "/api/collections/{name}/subjects/{subject}" in {each["path"] for each in requests}
    assert "ada-lovelace" not in repr(requests)


async def test_who_is_erased_is_gone_everywhere(client: aiohttp.ClientSession) -> None:
    people = await make(client, keep="crop", description="staff <b>of</b> the house")
    guests = await make(client, "guests")
    await enrol(client, people, 1, "ada", purpose="the door", metadata='{"team": "red"}')
    await enrol(client, guests, 1, "A. Lovelace")
    await enrol(client, people, 2, "bert")
    await enrol_all(
        client,
        [("ada/1.png", another(1)), ("bert/1.png", photo(seed=2))],
        subject_from="folder",
    )
    data = form(image=photo(seed=1, size=(300, 200)))
    by_face = await call(client, "POST", "/api/subjects/find", status=200, data=data)
    assert by_face["not_searched"] == []
    candidates = {(each["collection"], each["subject"]) for each in by_face["people"]}
    assert candidates == {("people", "ada"), ("guests", "A. Lovelace")}
    assert {each["similarity"] for each in by_face["people"]} == {1.0}
    by_name = await call(client, "POST", "/api/subjects/find", status=200, json={"subject": "ada"})
    assert [(each["collection"], each["similarity"]) for each in by_name["people"]] == [
        ("people", None)
    ]
    for wrong in ({}, {"subject": "ada", "image": "AAAA"}):
        await call(client, "POST", "/api/subjects/find", status=400, json=wrong)

    body: dict[str, Any] = {
        "people": [{"collection": c, "subject": s} for c, s in sorted(candidates)]
    }
    archive = await exported(client, body)
    assert {name.partition("/")[0] for name in archive.namelist()} == {
        "person.json",
        "index.html",
        "crops",
    }
    document = json.loads(archive.read("person.json"))
    there, here = document["collections"]
    assert (there["collection"], there["record"]["subject"]) == ("guests", "A. Lovelace")
    assert here["record"]["purpose"] == "the door"
    assert [face["metadata"] for face in here["faces"]] == [{"team": "red"}, {}]
    assert "embedding" not in here["faces"][0]
    (item,) = here["job_images"]
    assert (item["name"], item["status"], item["operation"]) == ("ada/1.png", "ok", "enrol")
    assert [face["subject"] for face in item["result"]["faces"]] == ["ada"]
    crop = Image.open(io.BytesIO(archive.read(here["faces"][0]["crop"])))
    assert crop.size == (112, 112)
    page = archive.read("index.html").decode()
    assert "A. Lovelace" in page
    assert "<b>of</b>" not in page
    with_numbers = json.loads(
        (await exported(client, {**body, "embeddings": True})).read("person.json")
    )
    assert len(with_numbers["collections"][0]["faces"][0]["embedding"]) == 8

    answer = await call(client, "POST", "/api/subjects/erase", status=200, json=body)
    erased = {each["collection"]: each for each in answer["erased"]}
    assert (erased["people"]["faces"], erased["guests"]["faces"]) == (2, 1)
    assert (erased["people"]["crops"], erased["people"]["job_results"]) == (2, 1)
    assert all(each["until"] or each["why"] for each in answer["remains"])
    data = form(image=photo(seed=1, size=(300, 200)))
    assert (await call(client, "POST", "/api/subjects/find", status=200, data=data))["people"] == []
    assert await found(client, people, 1) == await found(client, guests, 1) == []
    assert await found(client, people, 2) == ["bert"]
    (job,) = (await call(client, "GET", "/api/ml/jobs", status=200))["jobs"]
    path = f"/api/ml/jobs/{job['job_id']}/results"
    first, second = (await call(client, "GET", path, status=200))["results"]
    assert (first["name"], first["status"], first["error"]["code"]) == (
        "image-0",
        "error",
        "not_found",
    )
    assert second["result"]["faces"][0]["subject"] == "bert"
    assert (job["done"], job["failed"]) == (1, 1)
    await call(client, "POST", f"/api/ml/jobs/{job['job_id']}/retry", status=409)
    await call(client, "POST", "/api/subjects/erase", status=404, json=body)
    lines = await audit(client)
    erasures = [line for line in lines if line["action"] == "erase_person" and line["counts"]]
    assert {line["receipt"] for line in erasures} == {each["receipt"] for each in answer["erased"]}
    assert answer["receipt"] in {line["receipt"] for line in lines}
    assert {line["action"] for line in lines} >= {"export_people"}
    assert '"ada"' not in json.dumps(lines)
    assert "Lovelace" not in json.dumps(lines)
    # nothing forbids to enrol the person anew
    await enrol(client, people, 1, "ada")


async def exported(client: aiohttp.ClientSession, body: dict[str, Any]) -> zipfile.ZipFile:
    async with client.post("/api/subjects/export", json=body) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Cache-Control"] == "no-store"
        return zipfile.ZipFile(io.BytesIO(await response.read()))


async def test_who_is_on_the_list_is_not_enrolled(client: aiohttp.ClientSession) -> None:
    people = await make(client)
    guests = await make(client, "guests")
    await enrol(client, people, 2, "bert")
    path = f"{people}/do-not-enrol"
    data = form(image=photo(seed=1), reason="asked on the phone")
    (entry,) = (await call(client, "POST", path, status=201, data=data))["entries"]
    assert (entry["reason"], entry["compared"], entry["has_crop"]) == (
        "asked on the phone",
        True,
        False,
    )
    detail = await refused(client, people, 1, "enrolment_refused", subject="ada")
    assert entry["entry_id"] not in detail
    embedding = {"space": SPACE, "embedding": [0, 3.0, 0.1, 0, 0, 0, 0, 0], "subject": "ada"}
    problem = await call(client, "POST", f"{people}/faces", status=409, json=embedding)
    assert problem["code"] == "enrolment_refused"
    # beside others, only this image is refused
    two = aiohttp.FormData()
    for seed in (1, 3):
        two.add_field("images", another(seed), filename=f"{seed}.png")
    answer = await call(client, "POST", f"{people}/faces", status=201, data=two)
    assert len(answer["faces"]) == 1
    assert [each["code"] for each in answer["rejected"]] == ["enrolment_refused"]
    # the same in a job; another collection has another list
    (result,) = await enrol_all(client, [("a.png", another(1))], subject="ada")
    assert result["error"]["code"] == "enrolment_refused"
    await enrol(client, guests, 1, "ada")

    # a subject of the collection; who is enrolled stays
    body = {"subject": "bert"}
    (second,) = (await call(client, "POST", path, status=201, json=body))["entries"]
    assert await found(client, people, 2) == ["bert"]
    data = form(image=another(2), subject="bert")
    await call(client, "POST", f"{people}/faces", status=409, data=data)
    page = await call(client, "GET", f"{path}?limit=1", status=200)
    rest = await call(client, "GET", f"{path}?cursor={page['next_cursor']}", status=200)
    assert [each["entry_id"] for each in page["entries"] + rest["entries"]] == [
        entry["entry_id"],
        second["entry_id"],
    ]
    await call(client, "DELETE", f"{path}/{entry['entry_id']}", status=200)
    await call(client, "DELETE", f"{path}/{entry['entry_id']}", status=404)
    await enrol(client, people, 1, "ada")
    for wrong in ({}, {"subject": "nobody"}):
        status = 404 if wrong else 400
        await call(client, "POST", path, status=status, json=wrong)


async def test_an_erasure_can_keep_the_person_away(client: aiohttp.ClientSession) -> None:
    people = await make(client)
    await enrol(client, people, 1, "ada")
    body = {"people": [{"collection": "people", "subject": "ada"}], "do_not_enrol": True}
    answer = await call(client, "POST", "/api/subjects/erase", status=200, json=body)
    (erased,) = answer["erased"]
    assert len(erased["do_not_enrol"]) == 1
    assert "entries of do-not-enrol lists" in [each["what"] for each in answer["remains"]]
    data = form(image=another(1), subject="someone else")
    problem = await call(client, "POST", f"{people}/faces", status=409, data=data)
    assert problem["code"] == "enrolment_refused"


class HeldEngine(JobEngine):
    """Answers once it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()

    async def analyse(self, *arguments: Any, **more: Any) -> Analysis:
        self.reached.set()
        await self.let_go.wait()
        return await super().analyse(*arguments, **more)


@pytest.mark.parametrize("noted_only", [False, True])
async def test_a_running_job_does_not_bring_back_who_was_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted_only: bool
) -> None:
    async def nothing(*_: Any, **__: Any) -> ErasedItems:
        return ErasedItems()

    if noted_only:
        # as for a job that is not there yet: its images do not end, but are refused
        monkeypatch.setattr(JobErasure, "erase", nothing)
    engine = HeldEngine()
    async with (
        serving(FakeInference(), Embedder(), home=tmp_path, job_engine=engine) as client,
        asyncio.timeout(60),
    ):
        people = await make(client)
        await enrol(client, people, 1, "ada")
        data = aiohttp.FormData()
        for number, image in enumerate((another(1), photo(seed=1), photo(seed=2))):
            subject = "ada" if number == 0 else "other"
            data.add_field("images", image, filename=f"{subject}_{number}.png")
        path = "/api/ml/score/batch?operation=enrol&collection=people&subject_from=name"
        job = await call(client, "POST", path, status=202, data=data)
        await engine.reached.wait()
        await call(client, "DELETE", f"{people}/subjects/ada", status=200)
        engine.let_go.set()
        shown = await call(client, "GET", f"/api/ml/jobs/{job['job_id']}?wait=30", status=200)
        assert (shown["state"], shown["done"], shown["failed"]) == ("done", 1, 2)
        # by name, by the image that had been enrolled; the third one is nobody's business
        assert await found(client, people, 1) == []
        assert await found(client, people, 2) == ["other"]


async def test_a_key_of_one_collection_finds_nobody_elsewhere(tmp_path: Path) -> None:
    async with managing(tmp_path) as keys:
        everything = bearer(await new_key(keys, "admin"))
        guests_only = bearer(await new_key(keys, "manage", "search", collections=["guests"]))
    async with guarded(tmp_path) as client:
        for name in ("people", "guests"):
            sent = {"json": {"name": name}, "headers": everything}
            await call(client, "POST", "/api/collections", status=201, **sent)
            data = form(image=photo(seed=1), subject="ada")
            path = f"/api/collections/{name}/faces"
            await call(client, "POST", path, status=201, data=data, headers=everything)
        for body in ({"json": {"subject": "ada"}}, {"data": form(image=another(1))}):
            sent = {**body, "headers": guests_only}
            answer = await call(client, "POST", "/api/subjects/find", status=200, **sent)
            assert [each["collection"] for each in answer["people"]] == ["guests"]
        both = [{"collection": name, "subject": "ada"} for name in ("guests", "people")]
        for path in ("export", "erase"):
            sent = {"json": {"people": both}, "headers": guests_only}
            problem = await call(client, "POST", f"/api/subjects/{path}", status=404, **sent)
            assert problem["code"] == "not_found"
        # nothing was deleted on the way to the one that does not exist
        sent = {"json": {"subject": "ada"}, "headers": everything}
        answer = await call(client, "POST", "/api/subjects/find", status=200, **sent)
        assert len(answer["people"]) == 2

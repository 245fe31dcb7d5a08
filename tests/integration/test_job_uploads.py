"""Uploads of jobs over HTTP: a form, an archive, JSON; repeated, waited for, large."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StorageUnavailableError
from gateway.records.job_types import JobRecord
from gateway.records.jobs import JobRecords
from gateway.types import DEFAULT_TENANT
from tests.support.gateway_server import LIMIT
from tests.support.raw_http import FORM, exchange, head
from tests.support.upload_world import (
    MEMBERS,
    ONE,
    PARTS,
    ROUTE,
    THREE,
    TOO_LARGE,
    TWO,
    World,
    form,
    gateway,
    tarred,
    world,
    zipped,
)
from triton_python_backend.contract import DEFAULT_LOOK, MIN_CONFIDENCE

__all__ = ["gateway"]


async def test_a_form_becomes_a_job(gateway: World) -> None:
    body = await gateway.send(
        form(("a.png", ONE), ("b.png", TOO_LARGE), ("c.txt", b"no image"), (None, TWO)),
        "?operation=detect&max_faces=3",
    )
    assert (body["state"], body["total"], body["failed"]) == ("queued", 4, 2)
    assert await gateway.items(body) == [
        ("a.png", "queued", None),
        ("b.png", "error", "image_too_large"),
        ("c.txt", "error", "unsupported_media_type"),
        ("image-3", "queued", None),
    ]
    assert await gateway.stored(body) == [ONE, TWO]
    job = await gateway.records.jobs.get(DEFAULT_TENANT, body["job_id"])
    assert job is not None
    assert job.options["max_faces"] == 3
    assert (job.operation, job.retention_seconds) == ("detect", 86400)
    raw = b"".join(
        file.read_bytes() for file in (gateway.home / "jobs").rglob("*") if file.is_file()
    )
    assert ONE[:64] not in raw
    # the images that were refused are all there is to do
    await gateway.work()
    assert (await gateway.send(form(("c.txt", b"x" * 40))))["state"] == "done"


@pytest.mark.parametrize("kind", ["zip", "x-tar", "gzip"])
async def test_an_archive_becomes_a_job(gateway: World, kind: str) -> None:
    big = ("big.png", TOO_LARGE)
    video = ("film.mov", bytes(LIMIT + 1))
    members = [*MEMBERS, big, video]
    data = {
        "zip": lambda: zipped(*members),
        "x-tar": lambda: tarred(*members),
        "gzip": lambda: tarred(*members, mode="w:gz"),
    }[kind]()
    body = await gateway.send(data, headers={"Content-Type": f"application/{kind}"})
    assert (body["total"], body["skipped"], body["failed"]) == (3, 3, 1)
    assert await gateway.items(body) == [
        ("a/1.png", "queued", None),
        ("b/2.png", "queued", None),
        ("big.png", "error", "image_too_large"),
    ]
    assert await gateway.stored(body) == [ONE, TWO]
    # nothing was left on the way
    assert gateway.left()[1] == 0


async def test_archives_may_be_parts_of_a_form(gateway: World) -> None:
    body = await gateway.send(
        form(("x.zip", zipped(*MEMBERS)), ("3.png", THREE), ("y.tar", tarred(("4.png", ONE))))
    )
    assert [name for name, _, _ in await gateway.items(body)] == [
        "x.zip/a/1.png",
        "x.zip/b/2.png",
        "3.png",
        "y.tar/4.png",
    ]
    assert await gateway.stored(body) == [ONE, TWO, THREE, ONE]
    assert body["skipped"] == 2


async def test_json_becomes_a_job(gateway: World) -> None:
    packed = base64.b64encode(ONE).decode()
    named = {"image": f"data:image/png;base64,{packed}", "name": "b"}
    body = await gateway.send(json={"images": [packed, named, "?", {"image": packed}]})
    assert await gateway.items(body) == [
        ("image-0", "queued", None),
        ("b", "queued", None),
        ("image-2", "error", "invalid_image"),
        ("image-3", "queued", None),
    ]
    assert await gateway.stored(body) == [ONE] * 3


async def test_an_enrolment_takes_its_options_along(gateway: World) -> None:
    async with gateway.client.post("/api/collections", json={"name": "people"}) as response:
        assert response.status == 201
    query = (
        "?operation=enrol&collection=people&subject_from=folder&faces=single&quality=strict"
        "&metadata=%7B%22team%22%3A%22red%22%7D&rotation=off"
    )
    files = form(("anna/1.png", ONE), ("x.zip", zipped(("bert/2.png", TWO), ("3.png", THREE))))
    body = await gateway.send(files, query)
    names = [name for name, _, _ in await gateway.items(body)]
    assert names == ["anna/1.png", "bert/2.png", "3.png"]
    assert body["collection"] == "people"
    job = await gateway.records.jobs.get(DEFAULT_TENANT, body["job_id"])
    assert job is not None
    assert dict(job.options) == {
        "consent": None,
        "detail": DEFAULT_LOOK.detail,
        "faces": "single",
        "max_faces": None,
        "metadata": {"team": "red"},
        "min_confidence": MIN_CONFIDENCE,
        "purpose": None,
        "quality": "strict",
        "rotation": "off",
        "subject": None,
        "subject_from": "folder",
    }


async def test_a_repeated_upload_gets_the_first_answer(gateway: World) -> None:
    headers = {"Idempotency-Key": "k1"}
    files = ("a.png", ONE), ("b.png", TWO)
    first = await gateway.send(form(*files), "?operation=detect", headers=headers)
    before = gateway.left()
    again = await gateway.send(form(*files), "?operation=detect", headers=headers)
    assert again == first
    assert gateway.left() == before
    # the same images from a zip are the same content
    other = zipped(*files)
    zip_headers = headers | {"Content-Type": "application/zip"}
    assert await gateway.send(other, "?operation=detect", headers=zip_headers) == first
    for data, query in [
        (form(*files), "?operation=score"),
        (form(*files), "?operation=detect&max_faces=1"),
        (form(("a.png", ONE), ("c.png", TWO)), "?operation=detect"),
        (form(("a.png", ONE), ("b.png", THREE)), "?operation=detect"),
    ]:
        detail = await gateway.refused(409, "conflict", data, query, headers=headers)
        assert "another request" in detail
    query = "?operation=detect"
    third = await gateway.send(form(*files), query, headers={"Idempotency-Key": "k2"})
    assert third["job_id"] != first["job_id"]
    mine = await gateway.send(form(*files), query, headers=headers | {"X-Tenant": "b"})
    assert mine["job_id"] != first["job_id"]
    assert len(await gateway.records.jobs.page(DEFAULT_TENANT, limit=9)) == 2


async def test_a_client_that_hangs_up_at_the_end_finds_its_job_under_its_key(
    gateway: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, gone, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    submit = JobRecords.submit

    async def late(self: JobRecords, *given: Any, **more: Any) -> JobRecord:
        checked.set()
        await gone.wait()
        job = await submit(self, *given, **more)
        done.set()
        return job

    headers = {"Idempotency-Key": "k1"}
    with monkeypatch.context() as slow:
        slow.setattr(JobRecords, "submit", late)
        sending = asyncio.create_task(gateway.send(form(("a.png", ONE)), headers=headers))
        await checked.wait()
        sending.cancel()
        await asyncio.wait({sending})
        # long enough for the gateway to notice
        await asyncio.sleep(0.2)
        gone.set()
        await done.wait()
    again = await gateway.send(form(("a.png", ONE)), headers=headers)
    (job,) = await gateway.records.jobs.page(DEFAULT_TENANT, limit=9)
    assert again["job_id"] == job.id
    assert await gateway.stored(again) == [ONE]


async def test_a_job_that_was_submitted_unnoticed_keeps_its_images_and_its_key(
    gateway: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = JobRecords.submit
    headers = {"Idempotency-Key": "k1"}

    async def lost(self: JobRecords, *given: Any, **more: Any) -> None:
        await submit(self, *given, **more)
        raise StorageUnavailableError("the connection broke off after the commit")

    with monkeypatch.context() as broken:
        broken.setattr(JobRecords, "submit", lost)
        await gateway.send(form(("a.png", ONE)), status=503, headers=headers)
    again = await gateway.send(form(("a.png", ONE)), headers=headers)
    (job,) = await gateway.records.jobs.page(DEFAULT_TENANT, limit=9)
    assert (job.state, job.id) == ("queued", again["job_id"])
    assert await gateway.stored({"job_id": job.id}) == [ONE]


async def test_an_upload_waits_for_its_job(gateway: World) -> None:
    sending = asyncio.create_task(gateway.send(form(("a.png", ONE)), "?wait=30", status=200))
    while not sending.done():
        await gateway.work()
        await asyncio.sleep(0.05)
    body = await sending
    assert (body["state"], body["failed"], body["total"]) == ("done", 1, 1)
    assert (await gateway.send(form(("a.png", ONE)), "?wait=0.2"))["state"] == "queued"


async def test_what_was_stored_counts_as_memory_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, max_receiving_megabytes=1, job_max_images=100) as gateway:
        body = b"".join(PARTS) + b"--b--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        assert (await gateway.send(body, headers=headers))["total"] == 40
        archive = tarred(*((f"{i}.png", ONE + bytes(90_000)) for i in range(40)))
        assert (await gateway.send(form(("a.tar", archive))))["total"] == 40
        headers = {"Content-Type": "application/x-tar"}
        assert (await gateway.send(archive, headers=headers))["total"] == 40
        images = [base64.b64encode(ONE + bytes(90_000)).decode()] * 12
        await gateway.refused(503, "inference_unavailable", json={"images": images})
        # what was held is given back
        assert (await gateway.send(json={"images": images[:5]}))["total"] == 5


async def test_the_time_for_an_upload_grows_with_it(tmp_path: Path) -> None:
    limits = {"body_idle_seconds": 30.0, "body_timeout_seconds": 0.4}
    sent = [
        head("POST", ROUTE, FORM, length=sum(map(len, PARTS[:5])) + 7),
        *PARTS[:5],
        b"--b--\r\n",
    ]
    async with world(tmp_path, **limits) as gateway:
        assert (await exchange(gateway.client, sent, pause=0.15)).status == 202

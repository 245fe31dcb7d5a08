"""Jobs that enrol, over HTTP: the gateway works on them, to which the vectors belong."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.types import Quality
from tests.support import fake_inference
from tests.support.collection_client import Embedder, call, found, make
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import serving
from tests.support.job_worker import JobEngine

POOR = Quality(size=20, sharpness=0.05, brightness=0.5, yaw=0, pitch=0, roll=0)


@pytest.fixture
def engine() -> JobEngine:
    return JobEngine()


@pytest.fixture
async def client(tmp_path: Path, engine: JobEngine) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(FakeInference(), Embedder(), home=tmp_path, job_engine=engine) as session,
        asyncio.timeout(120),
    ):
        yield session


async def enrol_all(
    client: aiohttp.ClientSession, images: list[tuple[str, bytes]], **options: str
) -> list[dict[str, Any]]:
    """Enrol images, as a ZIP, as a job into `people`; returns their results."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, image in images:
            archive.writestr(name, image)
    sent = {"data": packed.getvalue(), "headers": {"Content-Type": "application/zip"}}
    query = {"operation": "enrol", "collection": "people", **options}
    job = await call(client, "POST", "/api/ml/score/batch", status=202, params=query, **sent)
    path = f"/api/ml/jobs/{job['job_id']}"
    while (now := await call(client, "GET", f"{path}?wait=5", status=200))["state"] != "done":
        pass
    assert now["done"] + now["failed"] == len(images)
    return list((await call(client, "GET", f"{path}/results", status=200))["results"])


async def count(client: aiohttp.ClientSession) -> int:
    return int((await call(client, "GET", "/api/collections/people", status=200))["faces"])


async def test_faces_are_enrolled_once_and_found(client, engine):
    at = await make(client)
    images = [("ada_1.png", photo(seed=1)), ("grace.png", photo(seed=2))]
    results = await enrol_all(client, [*images, ("ada_2.png", photo(seed=1))], subject_from="name")
    assert [each["status"] for each in results] == ["ok"] * 3
    faces = [each["result"]["faces"][0] for each in results]
    assert [face["subject"] for face in faces] == ["ada", "grace", "ada"]
    # the same photo twice is one face
    assert faces[0]["face_id"] == faces[2]["face_id"]
    assert sorted((faces[0]["duplicate"], faces[2]["duplicate"])) == [False, True]
    assert [await found(client, at, seed) for seed in (1, 2)] == [["ada"], ["grace"]]
    assert engine.needs, "a client of Triton of its own was asked"

    again = await enrol_all(client, images, subject_from="name")
    assert [each["result"]["faces"][0]["duplicate"] for each in again] == [True, True]
    assert await count(client) == 2


async def test_a_result_is_what_the_route_answers(client):
    at = await make(client)
    (made,) = await enrol_all(client, [("a.png", photo(faces=3))], faces="all", subject="ada")
    form = aiohttp.FormData({"faces": "all", "subject": "ada"})
    form.add_field("images", photo(faces=3), filename="a.png", content_type="image/png")
    answer = await call(client, "POST", f"{at}/faces", status=200, data=form)
    for each in (answer, made["result"]):
        del each["request_id"]
        for face in each["faces"]:
            face["duplicate"] = None
        each["faces"].sort(key=lambda face: face["face_id"])
    assert made["result"] == answer
    assert len(answer["faces"]) == 3


async def test_images_that_cannot_be_enrolled_end_with_the_codes_of_the_route(client, monkeypatch):
    await make(client)
    images = [("a/1.png", photo(faces=0)), ("b/2.png", photo(faces=2)), ("c.png", photo(seed=3))]
    results = await enrol_all(client, images, faces="single", subject_from="folder")
    errors = [each["error"]["code"] for each in results]
    assert errors == ["no_face", "several_faces", "invalid_request"]

    monkeypatch.setattr(fake_inference, "GOOD", POOR)
    (poor,) = await enrol_all(client, [("d.png", photo(seed=4))], quality="strict")
    assert poor["error"]["code"] == "low_quality"
    assert await count(client) == 0


async def test_options_and_metadata_reach_the_faces(client):
    await make(client)
    (made,) = await enrol_all(
        client, [("a.png", photo(seed=1))], subject="ada", metadata=json.dumps({"age": 36})
    )
    (face,) = made["result"]["faces"]
    assert (face["subject"], face["metadata"]) == ("ada", {"age": 36})


async def test_a_collection_that_was_deleted_ends_its_images(client, engine):
    await make(client)
    engine.seconds = 1.0
    data = aiohttp.FormData()
    data.add_field("images", photo(seed=1), filename="a.png", content_type="image/png")
    job = await call(
        client,
        "POST",
        "/api/ml/score/batch?operation=enrol&collection=people",
        status=202,
        data=data,
    )
    await engine.started.wait()
    await call(client, "DELETE", "/api/collections/people", status=200)
    path = f"/api/ml/jobs/{job['job_id']}"
    await call(client, "GET", f"{path}?wait=30", status=200)
    (result,) = (await call(client, "GET", f"{path}/results", status=200))["results"]
    assert result["error"]["code"] == "not_found"

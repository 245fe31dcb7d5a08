"""The collection routes as a client meets them: collections, lists, names, refusals, moving."""

import asyncio
import base64
import json
import re
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from tests.support.collection_client import Embedder, call, client, enrol, found, make
from tests.support.collections import DIMENSIONS
from tests.support.fake_inference import DIMENSION, SPACE, FakeInference, photo
from tests.support.gateway_server import form, serving

__all__ = ["client"]


async def test_the_walk_through(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    for seed, subject in enumerate(("anna", "bert", "cleo")):
        answer = await enrol(client, at, seed, subject)
        (face,) = answer["faces"]
        assert (face["subject"], face["duplicate"], answer["rejected"]) == (subject, False, [])
    assert await found(client, at, 1) == ["bert"]
    assert await found(client, at, 5) == []
    shown = await call(client, "GET", at, status=200)
    assert (shown["faces"], shown["subjects"], shown["space"]) == (3, 3, SPACE)
    receipt = await call(client, "DELETE", f"{at}/subjects/bert", status=200)
    assert (receipt["faces"], receipt["vectors"]) == (1, 1)
    assert await found(client, at, 1) == []
    assert await found(client, at, 0) == ["anna"]
    await call(client, "DELETE", at, status=200)
    problem = await call(client, "GET", at, status=404)
    assert problem["code"] == "not_found"


async def test_lists_have_cursors(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    for seed in range(5):
        await enrol(client, at, seed, f"s{seed % 2}")
    seen: list[str] = []
    query = "?limit=2"
    while True:
        page = await call(client, "GET", f"{at}/faces{query}", status=200)
        seen += [face["face_id"] for face in page["faces"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 5
    page = await call(client, "GET", f"{at}/faces?subject=s1", status=200)
    assert len(page["faces"]) == 2
    for name in ("b", "a", "c"):
        await make(client, name)
    page = await call(client, "GET", "/api/collections?limit=3", status=200)
    assert [each["name"] for each in page["collections"]] == ["a", "b", "c"]
    query = f"?cursor={page['next_cursor']}"
    page = await call(client, "GET", f"/api/collections{query}", status=200)
    assert [each["name"] for each in page["collections"]] == ["people"]
    assert page["next_cursor"] is None
    for wrong in ("x", "WzEsMl0", base64.urlsafe_b64encode(b'["a"]').decode()):
        await call(client, "GET", f"{at}/faces?cursor={wrong}", status=400)


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a b", "a/b", "ä", "a" * 65, "a~b", "a\n", "..", 7, None]
)
async def test_names_that_are_none(client: aiohttp.ClientSession, name: object) -> None:
    problem = await call(client, "POST", "/api/collections", status=400, json={"name": name})
    assert problem["code"] == "invalid_request"


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9", "a" * 64])
async def test_names_that_are(client: aiohttp.ClientSession, name: str) -> None:
    at = await make(client, name)
    await enrol(client, at, 1, name)
    assert await found(client, at, 1) == [name]


async def test_refusals(client: aiohttp.ClientSession) -> None:
    at = await make(client, match_threshold=0.5)
    problem = await call(client, "POST", "/api/collections", status=409, json={"name": "people"})
    assert problem["code"] == "conflict"
    for method, path in (
        ("GET", "/api/collections/none"),
        ("DELETE", "/api/collections/none"),
        ("GET", "/api/collections/none/faces"),
        ("GET", f"{at}/clusters"),
        ("DELETE", f"{at}/subjects/none"),
        ("DELETE", f"{at}/faces/none"),
    ):
        assert (await call(client, method, path, status=404))["code"] == "not_found"
    for wrong in ({"name": "x", "keep": "all"}, {"name": "x", "colour": 1}, [], {}):
        await call(client, "POST", "/api/collections", status=400, json=wrong)
    image = base64.b64encode(photo()).decode()
    for wrong in (
        {"image": image, "metadata": {"a": [1]}},
        {"image": image, "metadata": {"a.b": 1}},
        {"image": image, "metadata": {str(i): i for i in range(17)}},
        {"image": image, "faces": "some"},
        {"images": [image] * 5},
        {"image": image, "embedding": [1.0, 0.0], "space": SPACE},
        {"image_urls": "http://x"},
        {"image_urls": []},
        {"image_urls": ["http://x"] * 5},
    ):
        problem = await call(client, "POST", f"{at}/faces", status=400, json=wrong)
        assert problem["code"] == "invalid_request"
    problem = await call(
        client, "POST", f"{at}/search", status=400, json={"image": image, "target_fmr": 0.001}
    )
    assert "calibration" in problem["detail"]
    text = {"data": b"x", "headers": {"Content-Type": "text/plain"}}
    await call(client, "POST", f"{at}/faces", status=415, **text)


async def test_settings_change_and_crops_go(client: aiohttp.ClientSession) -> None:
    at = await make(client, keep="crop", retention_days=3)
    await enrol(client, at, 1, "anna")
    page = await call(client, "GET", f"{at}/faces", status=200)
    assert page["faces"][0]["expires_at"] is not None
    change = {"keep": "none", "description": "staff"}
    changed = await call(client, "PATCH", at, status=200, json=change)
    assert (changed["keep"], changed["description"], changed["retention_days"]) == (
        "none",
        "staff",
        3,
    )
    receipt = await call(client, "DELETE", f"{at}/subjects/anna", status=200)
    assert receipt["crops"] == 0
    changed = await call(client, "PATCH", at, status=200, json={"retention_days": None})
    assert changed["retention_days"] is None


async def test_groups(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    for seed in (0, 1, 2):
        for _ in range(2):
            vector = np.eye(DIMENSION)[seed].tolist()
            body = {"space": SPACE, "embedding": vector, "subject": f"s{seed}"}
            await call(client, "POST", f"{at}/faces", status=201, json=body)
    started = await call(client, "POST", f"{at}/clusters", status=202)
    assert (started["state"], started["threshold"]) == ("running", 0.32)
    async with asyncio.timeout(60):
        while True:
            answer = await call(client, "GET", f"{at}/clusters?limit=2", status=200)
            if answer["state"] != "running":
                break
            await asyncio.sleep(0.1)
    assert (answer["state"], answer["run_id"]) == ("done", started["run_id"])
    assert answer["progress"] == {"total": 6, "done": 6}
    query = f"?cursor={answer['next_cursor']}"
    rest = await call(client, "GET", f"{at}/clusters{query}", status=200)
    groups = answer["clusters"] + rest["clusters"]
    assert sorted(json.dumps(group["subjects"]) for group in groups) == [
        '{"s0": 2}',
        '{"s1": 2}',
        '{"s2": 2}',
    ]


async def test_a_move_by_http(client: aiohttp.ClientSession) -> None:
    at = await make(client, keep="crop")
    await enrol(client, at, 1, "anna")
    problem = await call(client, "POST", f"{at}/migrate", status=409, json={"action": "finish"})
    assert "not being moved" in problem["detail"]
    started = await call(client, "POST", f"{at}/migrate", status=202, json={"action": "start"})
    assert started["migration"]["source"] == SPACE
    async with asyncio.timeout(60):
        while True:
            shown = await call(client, "GET", at, status=200)
            if shown["migration"]["state"] == "switched":
                break
            await asyncio.sleep(0.1)
    assert shown["dimension"] == DIMENSIONS[shown["space"]]
    shown = await call(client, "POST", f"{at}/migrate", status=200, json={"action": "finish"})
    assert shown["migration"] is None


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    for turn in range(2):
        async with serving(FakeInference(), Embedder(), home=tmp_path) as client:
            at = "/api/collections/people"
            if turn == 0:
                await make(client)
                await enrol(client, at, 1, "anna")
            assert await found(client, at, 1) == ["anna"]


async def test_a_full_disk_is_a_507(tmp_path: Path) -> None:
    async with serving(FakeInference(), Embedder(), home=tmp_path) as client:
        at = await make(client)
        await enrol(client, at, 1, "anna")
    huge = 1 << 40
    async with serving(
        FakeInference(), Embedder(), home=tmp_path, min_free_disk_megabytes=huge
    ) as client:
        data = form(image=photo(seed=2))
        problem = await call(client, "POST", f"{at}/faces", status=507, data=data)
        assert problem["code"] == "insufficient_storage"
        assert await found(client, at, 1) == ["anna"]
        await call(client, "DELETE", f"{at}/subjects/anna", status=200)
    async with serving(FakeInference(), Embedder(), home=tmp_path) as client:
        await enrol(client, at, 2, "bert")
        assert await found(client, at, 2) == ["bert"]
        shown = await call(client, "GET", at, status=200)
        assert shown["faces"] == 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown["created_at"])

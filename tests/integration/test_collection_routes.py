"""The collection routes as a client meets them: real app, real homes, an engine in closed form."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from gateway.models import Quality
from tests.support import fake_inference
from tests.support.collections import DIMENSIONS, FakeEmbedder
from tests.support.fake_inference import DIMENSION, SPACE, FakeInference, photo
from tests.support.gateway_server import form, serving

POOR = Quality(size=20, sharpness=0.05, brightness=0.5, yaw=0, pitch=0, roll=0)


class Embedder(FakeEmbedder):
    """Enough to close."""

    async def close(self) -> None:
        return


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(FakeInference(), Embedder(), home=tmp_path, max_enrol_images=4) as session:
        yield session


async def call(
    client: aiohttp.ClientSession, method: str, path: str, *, status: int, **sent: Any
) -> dict[str, Any]:
    async with client.request(method, path, **sent) as response:
        answer = await response.json(content_type=None)
        assert response.status == status, answer
        return answer


async def make(client: aiohttp.ClientSession, name: str = "people", **fields: Any) -> str:
    await call(client, "POST", "/api/collections", status=201, json={"name": name, **fields})
    return f"/api/collections/{name}"


async def enrol(
    client: aiohttp.ClientSession, at: str, seed: int, subject: str | None, **more: str
) -> dict[str, Any]:
    fields = {"image": photo(seed=seed), **more}
    if subject is not None:
        fields["subject"] = subject
    return await call(client, "POST", f"{at}/faces", status=201, data=form(**fields))


async def found(client: aiohttp.ClientSession, at: str, seed: int) -> list[str]:
    data = form(image=photo(seed=seed))
    answer = await call(client, "POST", f"{at}/search", status=200, data=data)
    return [match["subject"] for match in answer["faces"][0]["matches"]]


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


async def test_all_ways_of_sending(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    raw = {"data": photo(seed=1), "headers": {"Content-Type": "image/png"}}
    await call(client, "POST", f"{at}/faces?subject=raw", status=201, **raw)
    packed = base64.b64encode(photo(seed=2)).decode()
    sent = {"image": packed, "subject": "json", "metadata": {"age": 3, "ok": True}}
    answer = await call(client, "POST", f"{at}/faces", status=201, json=sent)
    assert answer["faces"][0]["metadata"] == {"age": 3, "ok": True}
    await enrol(client, at, 3, "form", metadata='{"age": 4}')
    assert await found(client, at, 1) == ["raw"]
    raw = {"data": photo(seed=2), "headers": {"Content-Type": "image/png"}}
    answer = await call(client, "POST", f"{at}/search?limit=1", status=200, **raw)
    assert answer["faces"][0]["matches"][0]["subject"] == "json"
    sent = {"image": base64.b64encode(photo(seed=3)).decode(), "filter": {"age": 4}}
    answer = await call(client, "POST", f"{at}/search", status=200, json=sent)
    assert answer["faces"][0]["matches"][0]["subject"] == "form"
    sent["filter"] = {"age": 3}
    answer = await call(client, "POST", f"{at}/search", status=200, json=sent)
    assert answer["faces"][0]["matches"] == []


async def test_many_images_are_judged_one_by_one(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await make(client)
    data = aiohttp.FormData()
    for name, image in (
        ("a.png", photo(seed=1)),
        ("blank.png", photo(faces=0)),
        ("text.txt", b"no image"),
        ("again.png", photo(seed=1)),
    ):
        data.add_field("images", image, filename=name)
    answer = await call(client, "POST", f"{at}/faces", status=201, data=data)
    assert [(face["index"], face["duplicate"]) for face in answer["faces"]] == [
        (0, False),
        (3, True),
    ]
    assert answer["faces"][0]["face_id"] == answer["faces"][1]["face_id"]
    rejected = [(each["index"], each["name"], each["code"]) for each in answer["rejected"]]
    assert rejected == [(1, "blank.png", "no_face"), (2, "text.txt", "unsupported_media_type")]
    monkeypatch.setattr(fake_inference, "GOOD", POOR)
    data = form(image=photo(seed=2))
    problem = await call(client, "POST", f"{at}/faces", status=422, data=data)
    assert problem["code"] == "low_quality"
    assert "too_small, blurred" in problem["detail"]
    await enrol(client, at, 2, "poor", quality="off")
    assert (await call(client, "GET", at, status=200))["faces"] == 2


async def test_which_faces_of_an_image(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    three = photo(faces=3, seed=0)
    problem = await call(
        client, "POST", f"{at}/faces", status=422, data=form(image=three, faces="single")
    )
    assert problem["code"] == "several_faces"
    answer = await call(
        client, "POST", f"{at}/faces", status=201, data=form(image=three, faces="all")
    )
    # nobody named them: each is a subject of its own
    assert len({face["subject"] for face in answer["faces"]}) == 3
    assert all(face["subject"] == face["face_id"] for face in answer["faces"])
    answer = await call(
        client, "POST", f"{at}/search", status=200, data=form(image=three, faces="all")
    )
    assert [len(face["matches"]) for face in answer["faces"]] == [1, 1, 1]
    problem = await call(
        client, "POST", f"{at}/search", status=422, data=form(image=photo(faces=0))
    )
    assert problem["code"] == "no_face"


async def test_the_same_image_again(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    first = await enrol(client, at, 1, "anna")
    data = form(image=photo(seed=1), subject="anna")
    again = await call(client, "POST", f"{at}/faces", status=200, data=data)
    assert again["faces"][0]["duplicate"]
    assert again["faces"][0]["face_id"] == first["faces"][0]["face_id"]
    assert (await call(client, "GET", at, status=200))["faces"] == 1


async def test_raw_embeddings(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    rows = (np.eye(DIMENSION)[:3] * 5).tolist()
    sent = {
        "space": SPACE,
        "metadata": {"batch": 7},
        "embeddings": [{"embedding": row, "subject": f"s{i}"} for i, row in enumerate(rows)],
    }
    answer = await call(client, "POST", f"{at}/faces", status=201, json=sent)
    assert [face["subject"] for face in answer["faces"]] == ["s0", "s1", "s2"]
    assert await found(client, at, 2) == ["s2"]
    probe = {"embedding": rows[1], "space": SPACE}
    answer = await call(client, "POST", f"{at}/search", status=200, json=probe)
    assert answer["faces"][0]["box"] is None
    assert answer["faces"][0]["matches"] == [
        {
            "subject": "s1",
            "face_id": answer["faces"][0]["matches"][0]["face_id"],
            "similarity": 1.0,
            "metadata": {"batch": 7},
        }
    ]
    for wrong, status in (
        ({"embedding": rows[0]}, 400),
        ({"embedding": rows[0], "space": "0" * 16}, 409),
        ({"embedding": [0.0, 0.0], "space": SPACE}, 400),
        ({"embedding": [1.0, 2.0], "space": SPACE}, 400),
        ({"embedding": rows[0], "space": "xyz"}, 400),
        ({}, 400),
    ):
        await call(client, "POST", f"{at}/search", status=status, json=wrong)
        await call(client, "POST", f"{at}/faces", status=status, json=wrong)
    assert (await call(client, "GET", at, status=200))["faces"] == 3


async def test_an_idempotency_key(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    headers = {"Idempotency-Key": "k-1"}
    body = {"space": SPACE, "embedding": [1.0] + [0.0] * 7, "subject": "a"}
    first = await call(client, "POST", f"{at}/faces", status=201, json=body, headers=headers)
    async with client.post(f"{at}/faces", json=body, headers=headers) as response:
        assert response.headers["Idempotency-Replayed"] == "true"
        assert (response.status, await response.json()) == (201, first)
    other = body | {"subject": "b"}
    problem = await call(client, "POST", f"{at}/faces", status=409, json=other, headers=headers)
    assert problem["code"] == "conflict"
    assert (await call(client, "GET", at, status=200))["faces"] == 1
    # a request that failed gives its key back
    headers = {"Idempotency-Key": "k-2"}
    wrong = body | {"space": "0" * 16}
    await call(client, "POST", f"{at}/faces", status=409, json=wrong, headers=headers)
    await call(client, "POST", f"{at}/faces", status=201, json=body, headers=headers)
    many = await asyncio.gather(
        *(
            client.post(f"{at}/faces", json=body, headers={"Idempotency-Key": "k-3"})
            for _ in range(6)
        )
    )
    assert {response.status for response in many} <= {201, 409}
    assert (await call(client, "GET", at, status=200))["faces"] == 3


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
    at = await make(client)
    if isinstance(name, str):
        body = {"space": SPACE, "embedding": [1.0] + [0.0] * 7, "subject": name}
        await call(client, "POST", f"{at}/faces", status=400, json=body)


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
        {"image_url": "http://x"},
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


async def test_thresholds(client: aiohttp.ClientSession) -> None:
    at = await make(client, match_threshold=0.9)
    body = {"space": SPACE, "embedding": [1.0, 1.0] + [0.0] * 6, "subject": "between"}
    await call(client, "POST", f"{at}/faces", status=201, json=body)
    probe = {"embedding": [1.0] + [0.0] * 7, "space": SPACE}
    answer = await call(client, "POST", f"{at}/search", status=200, json=probe)
    assert (answer["threshold"], answer["faces"][0]["matches"]) == (0.9, [])
    answer = await call(
        client, "POST", f"{at}/search", status=200, json=probe | {"min_similarity": 0.7}
    )
    assert answer["faces"][0]["matches"][0]["similarity"] == pytest.approx(2**-0.5, abs=1e-5)


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
    async with asyncio.timeout(30):
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

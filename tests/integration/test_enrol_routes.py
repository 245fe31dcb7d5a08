"""Enrolling and searching as a client meets them: what may be sent, what is remembered of it."""

import asyncio
import base64

import aiohttp
import numpy as np
import pytest

from gateway.types import Quality
from tests.support import fake_inference
from tests.support.collection_client import call, client, enrol, found, make
from tests.support.fake_inference import DIMENSION, SPACE, photo
from tests.support.gateway_server import form

__all__ = ["client"]

POOR = Quality(size=20, sharpness=0.05, brightness=0.5, yaw=0, pitch=0, roll=0)


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
    assert "3 faces" in problem["detail"]
    answer = await call(
        client, "POST", f"{at}/faces", status=201, data=form(image=three, faces="all")
    )
    # nobody named them: each is a subject of its own
    assert len({face["subject"] for face in answer["faces"]}) == 3
    assert [face["faces_found"] for face in answer["faces"]] == [3] * 3
    assert all(face["subject"] == face["face_id"] for face in answer["faces"])
    answer = await call(
        client, "POST", f"{at}/search", status=200, data=form(image=three, faces="all")
    )
    assert [len(face["matches"]) for face in answer["faces"]] == [1, 1, 1]
    largest = await call(client, "POST", f"{at}/search", status=200, data=form(image=three))
    assert (len(largest["faces"]), largest["faces_found"], largest["rotation"]) == (1, 3, 0)
    two = form(image=three, faces="all", max_faces="2", rotation="off", detail="high")
    answer = await call(client, "POST", f"{at}/search", status=200, data=two)
    assert (len(answer["faces"]), answer["faces_found"]) == (2, 3)
    wrong = form(image=three, rotation="left")
    await call(client, "POST", f"{at}/search", status=400, data=wrong)
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


async def test_a_key_does_not_outlive_the_face(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    bodies = [
        {"space": SPACE, "embedding": np.eye(DIMENSION)[seed].tolist(), "subject": subject}
        for seed, subject in enumerate(("anna", "bert"))
    ]
    headers = [{"Idempotency-Key": f"k-{number}"} for number in range(2)]
    for body, header in zip(bodies, headers, strict=True):
        await call(client, "POST", f"{at}/faces", status=201, json=body, headers=header)
    await call(client, "DELETE", f"{at}/subjects/anna", status=200)
    problem = await call(
        client, "POST", f"{at}/faces", status=404, json=bodies[0], headers=headers[0]
    )
    assert (problem["code"], "deleted" in problem["detail"]) == ("not_found", True)
    # a retry enrols nobody again, and others keep their answers
    assert await found(client, at, 0) == []
    await call(client, "POST", f"{at}/faces", status=201, json=bodies[1], headers=headers[1])
    await call(client, "DELETE", at, status=200)
    await make(client)
    await call(client, "POST", f"{at}/faces", status=404, json=bodies[1], headers=headers[1])


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

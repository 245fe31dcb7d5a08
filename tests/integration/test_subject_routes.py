"""Subjects as a client meets them: their names, their records, their kept crops."""

import io
import json
import unicodedata
from pathlib import Path
from urllib.parse import quote

import aiohttp
import numpy as np
from PIL import Image
from yarl import URL

from tests.support.collection_client import Embedder, call, client, enrol, found, make
from tests.support.fake_inference import DIMENSION, SPACE, FakeInference, photo
from tests.support.gateway_server import form, serving
from tests.unit.gateway.collections.test_names import NAMES, NO_NAMES

__all__ = ["client"]


def path_of(at: str, subject: str) -> URL:
    return URL(f"{at}/subjects/{quote(subject, safe='')}", encoded=True)


async def test_whatever_people_are_called(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    for number, name in enumerate(NAMES):
        body = {
            "space": SPACE,
            "embedding": np.eye(DIMENSION)[number % 8].tolist(),
            "subject": name,
        }
        await call(client, "POST", f"{at}/faces", status=201, json=body)
        written = unicodedata.normalize("NFC", name)
        at_name = path_of(at, unicodedata.normalize("NFD", name))
        assert (await call(client, "GET", at_name, status=200))["subject"] == written
        page = await call(client, "GET", f"{at}/faces", status=200, params={"subject": name})
        assert [face["subject"] for face in page["faces"]] == [written]
        # a form's text is a name, also where it begins as JSON does
        probe = form(image=photo(seed=number % 8), subject=name)
        answer = await call(client, "POST", f"{at}/search", status=200, data=probe)
        assert [m["subject"] for m in answer["faces"][0]["matches"]] == [written]
    shown = await call(client, "GET", at, status=200)
    assert shown["subjects"] == len(NAMES)
    for name in NAMES:
        await call(client, "DELETE", path_of(at, name), status=200)
        await call(client, "DELETE", path_of(at, name), status=404)
    assert (await call(client, "GET", at, status=200))["subjects"] == 0


async def test_what_is_no_name(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    for name in set(NO_NAMES) - {"\ud800"}:
        body = {"space": SPACE, "embedding": [1.0] + [0.0] * 7, "subject": name}
        problem = await call(client, "POST", f"{at}/faces", status=400, json=body)
        assert (problem["code"], "subject" in problem["detail"]) == ("invalid_request", True)
        if name not in ("", ".", ".."):
            await call(client, "GET", path_of(at, name), status=404)
            await call(client, "DELETE", path_of(at, name), status=404)


async def test_bytes_that_are_no_text(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    for odd in ("%ED%A0%80", "%FF", "%00", "%C0%AF"):
        for path in (f"{at}/subjects/{odd}", f"{at}/faces/{odd}/crop", f"/api/collections/{odd}"):
            await call(client, "GET", URL(path, encoded=True), status=404)
    half = (
        b'{"space": "%s", "embedding": [1,0,0,0,0,0,0,0], "subject": "a\\ud800"}' % SPACE.encode()
    )
    headers = {"Content-Type": "application/json"}
    await call(client, "POST", f"{at}/faces", status=400, data=half, headers=headers)
    for query in ("q=%00", "cursor=WyJcdTAwMDAiXQ", "q=" + "x" * 201):
        await call(client, "GET", URL(f"{at}/subjects?{query}", encoded=True), status=400)


async def test_a_subject_is_a_record(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    await enrol(client, at, 1, "anna")
    await enrol(client, at, 2, "anna")
    await enrol(client, at, 3, "bert")
    path = f"{at}/subjects/anna"
    shown = await call(client, "GET", path, status=200)
    assert (shown["display_name"], shown["external_id"], shown["metadata"]) == (None, None, {})
    assert shown["faces"] == 2
    change = {
        "display_name": "Anna Łuk",
        "external_id": "E-1",
        "metadata": {"vip": True, "n": 42.0},
    }
    changed = await call(client, "PATCH", path, status=200, json=change)
    assert {key: changed[key] for key in change} == change
    changed = await call(client, "PATCH", path, status=200, json={"external_id": None})
    assert (changed["external_id"], changed["display_name"]) == (None, "Anna Łuk")
    for wrong in (
        {"metadata": {"n": 2**53 + 1}},
        {"metadata": {"a": [1]}},
        {"display_name": "a\nb"},
        {"display_name": ""},
        {"external_id": 7},
        {"subject": "bert"},
        {"faces": 3},
    ):
        await call(client, "PATCH", path, status=400, json=wrong)
    await call(client, "PATCH", f"{at}/subjects/none", status=404, json=change)
    await call(client, "GET", "/api/collections/none/subjects", status=404)
    again = await call(client, "GET", path, status=200)
    assert {**again, "request_id": ""} == {**changed, "request_id": ""}
    page = await call(client, "GET", f"{at}/subjects?limit=1", status=200)
    rest = await call(client, "GET", f"{at}/subjects?cursor={page['next_cursor']}", status=200)
    assert [s["subject"] for s in page["subjects"] + rest["subjects"]] == ["anna", "bert"]
    assert rest["next_cursor"] is None
    for words, expected in ((" ŁUK  anna ", ["anna"]), ("", ["anna", "bert"]), ("zoe", [])):
        page = await call(client, "GET", f"{at}/subjects", status=200, params={"q": words})
        assert [s["subject"] for s in page["subjects"]] == expected
    receipt = await call(client, "DELETE", path, status=200)
    assert receipt["faces"] == 2
    await call(client, "GET", path, status=404)
    await enrol(client, at, 1, "anna")
    assert (await call(client, "GET", path, status=200))["display_name"] is None


async def test_a_written_record_outlives_its_faces(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    faces = [(await enrol(client, at, 1, name))["faces"][0] for name in ("anna", "bert")]
    await call(client, "PATCH", f"{at}/subjects/anna", status=200, json={"external_id": "7"})
    for face in faces:
        await call(client, "DELETE", f"{at}/faces/{face['face_id']}", status=200)
    page = await call(client, "GET", f"{at}/subjects", status=200)
    assert [(s["subject"], s["faces"]) for s in page["subjects"]] == [("anna", 0)]
    shown = await call(client, "GET", at, status=200)
    assert (shown["faces"], shown["subjects"]) == (0, 1)
    receipt = await call(client, "DELETE", f"{at}/subjects/anna", status=200)
    assert receipt["faces"] == 0
    assert (await call(client, "GET", f"{at}/subjects", status=200))["subjects"] == []


async def test_crops_that_are_kept(tmp_path: Path) -> None:
    async with serving(FakeInference(), Embedder(), home=tmp_path) as client:
        at = await make(client, keep="crop")
        (face,) = (await enrol(client, at, 1, "anna"))["faces"]
        path = f"{at}/faces/{face['face_id']}/crop"
        async with client.get(path) as response:
            assert (response.status, response.content_type) == (200, "image/png")
            assert response.headers["Cache-Control"] == "no-store"
            image = Image.open(io.BytesIO(await response.read()))
        assert (image.size, image.mode) == ((112, 112), "RGB")
        body = {"space": SPACE, "embedding": [1.0] + [0.0] * 7, "subject": "raw"}
        (raw,) = (await call(client, "POST", f"{at}/faces", status=201, json=body))["faces"]
        problem = await call(client, "GET", f"{at}/faces/{raw['face_id']}/crop", status=404)
        assert "enrolled as an embedding" in problem["detail"]
        await call(client, "GET", f"{at}/faces/{raw['face_id'][:-1]}x/crop", status=404)
        other = await make(client, "others")
        problem = await call(client, "GET", f"{other}/faces/{face['face_id']}/crop", status=404)
        assert "there is no face" in problem["detail"]
        (bare,) = (await enrol(client, other, 1, "anna"))["faces"]
        problem = await call(client, "GET", f"{other}/faces/{bare['face_id']}/crop", status=404)
        assert "keep=none" in problem["detail"]
    # the key is another one now
    (tmp_path / "keys" / "crops.key").write_bytes(b"k" * 32)
    async with serving(FakeInference(), Embedder(), home=tmp_path) as client:
        problem = await call(client, "GET", path, status=503)
        assert problem["code"] == "storage_unavailable"
        await call(client, "PATCH", at, status=200, json={"keep": "none"})
        assert "keep=none" in (await call(client, "GET", path, status=404))["detail"]


async def test_filters_by_http(client: aiohttp.ClientSession) -> None:
    at = await make(client)
    metadata = '{"vip": true, "n": 1, "age": 42.0, "zero": 0, "big": 9007199254740992, "t": "true"}'
    await enrol(client, at, 1, "anna", metadata=metadata)
    for text, expected in (
        ('{"vip": true}', 1),
        ('{"vip": false}', 0),
        ('{"vip": 1}', 0),
        ('{"vip": "true"}', 0),
        ('{"n": 1}', 1),
        ('{"n": 1e0}', 1),
        ('{"n": true}', 0),
        ('{"age": 42}', 1),
        ('{"zero": -0.0}', 1),
        ('{"zero": false}', 0),
        ('{"big": 9007199254740992}', 1),
        ('{"big": 9007199254740991}', 0),
        ('{"t": "true"}', 1),
        ('{"t": true}', 0),
        ('{"vip": true, "n": 1, "age": 42}', 1),
        ('{"vip": true, "n": 2}', 0),
    ):
        for body in (
            {"data": form(image=photo(seed=1), filter=text)},
            {
                "json": {
                    "space": SPACE,
                    "embedding": np.eye(8)[1].tolist(),
                    "filter": json.loads(text),
                }
            },
        ):
            answer = await call(client, "POST", f"{at}/search", status=200, **body)
            assert len(answer["faces"][0]["matches"]) == expected, text
    for digits in ("9007199254740993", "18446744073709551617", "9007199254740993.0"):
        for path, field in (("faces", "metadata"), ("search", "filter")):
            fields = {"image": photo(seed=2), field: f'{{"n": {digits}}}'}
            problem = await call(client, "POST", f"{at}/{path}", status=400, data=form(**fields))
            assert "2^53" in problem["detail"]
    for wrong in ({"match_threshold": False}, {"retention_days": True}):
        await call(client, "POST", "/api/collections", status=400, json={"name": "x", **wrong})
    probe = {"space": SPACE, "embedding": np.eye(8)[1].tolist()}
    for wrong in ({"limit": True}, {"min_similarity": False}, {"embedding": [True] + [0] * 7}):
        await call(client, "POST", f"{at}/search", status=400, json=probe | wrong)
    assert await found(client, at, 1) == ["anna"]

"""Fields have the types of their schema and are given once."""

import asyncio
import base64
import json
from urllib.parse import quote

import pytest

from gateway.app import DOCUMENT, create_app
from gateway.records import idempotency
from gateway.settings import Settings
from tests.support.collection_client import Embedder, make
from tests.support.fake_inference import SPACE, FakeInference, photo
from tests.support.gateway_server import serving
from tests.support.json_schemas import validator
from tests.support.raw_http import (
    FORM,
    JSON,
    exchange,
    filled,
    head,
    part,
    people,
    refused,
    send,
)

__all__ = ["people"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG = photo()
PACKED = base64.b64encode(PNG).decode()

DESCRIBED = json.loads(create_app(Settings())[DOCUMENT])
WITH_JSON = [
    (path, method)
    for path, item in DESCRIBED["paths"].items()
    for method, operation in item.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
]
PROBES = [
    False,
    True,
    0,
    1,
    0.5,
    -7,
    "0",
    "0.5",
    "true",
    "",
    None,
    [],
    [1],
    [True, False],
    ["0.5", "1"],
    [[0.5, 1]],
    [{"embedding": [True, False]}],
    [{"embedding": ["1", "0.5"]}],
    [{"embedding": [1, 0.5], "subject": 1}],
    [{"embedding": [1, 0.5], "metadata": []}],
    [{"embedding": [1, 0.5], "colour": "red"}],
    {},
    {"a": [1]},
    {"a": None},
]


@pytest.mark.parametrize(("path", "method"), WITH_JSON)
async def test_every_field_of_every_body_refuses_what_its_schema_refuses(people, path, method):
    content = DESCRIBED["paths"][path][method]["requestBody"]["content"]["application/json"]
    schema = content["schema"]
    if "$ref" in schema:
        schema = DESCRIBED["components"]["schemas"][schema["$ref"].rsplit("/")[-1]]
    base = {name: PACKED for name in schema["properties"] if name.startswith("image")}
    base.pop("images", None)
    if "name" in schema["properties"]:
        base["name"] = "new"
    refusals = 0
    for name, field in schema["properties"].items():
        check = validator({**field, "components": DESCRIBED["components"]})
        for probe in PROBES:
            if check.is_valid(probe):
                continue
            body = json.dumps(base | {name: probe}).encode()
            answer = await send(people, method.upper(), filled(path), body, JSON)
            assert answer.status in (400, 422), (name, probe, answer.body)
            refusals += 1
    assert refusals > 10


async def test_a_boolean_is_no_threshold(people):
    vector = {"embedding": [1.0] + [0.0] * 7, "space": SPACE}
    for path, body in (
        ("/api/collections", {"name": "new", "match_threshold": False}),
        ("/api/collections/people/search", {**vector, "min_similarity": True}),
        ("/api/collections/people/clusters", {"threshold": True}),
        ("/api/ml/verify", {"image_a": PACKED, "image_b": PACKED, "threshold": False}),
    ):
        answer = await send(people, "POST", path, json.dumps(body).encode(), JSON)
        assert "number" in refused(answer)
    async with people.get("/api/collections/new") as response:
        assert response.status == 404


async def test_a_field_given_twice_is_refused_wherever_it_stands(people):
    at = "/api/collections/people"
    vector = json.dumps({"space": SPACE, "embedding": [1.0] + [0.0] * 7})[1:-1]
    raw, end = "Content-Type: image/png", b"--b--"
    image, text = part('name="image"', PNG), part('name="faces"', b"all")
    pair = part('name="image_a"', PNG) + part('name="image_b"', PNG)
    level = part('name="threshold"', b"0.5")
    for path, body, kind in (
        ("/api/ml/detect?max_faces=1&max_faces=1", PNG, raw),
        ("/api/ml/detect", image + image + end, FORM),
        ("/api/ml/detect", b'{"image": "AAAA", "image": "AAAA"}', JSON),
        ("/api/ml/verify", pair + level + level + end, FORM),
        ("/api/ml/verify?threshold=0.5", pair + level + end, FORM),
        (f"{at}/search", image + text + text + end, FORM),
        (f"{at}/search", image + image + end, FORM),
        (f"{at}/faces", image + image + end, FORM),
        (f"{at}/search?faces=all", image + text + end, FORM),
        (f"{at}/search?faces=all&faces=all", PNG, raw),
        (f"{at}/search", b'{"faces": "all", "faces": "all", %s}' % vector.encode(), JSON),
        (f"{at}/search", b'{"filter": {"a": 1, "a": 1}, %s}' % vector.encode(), JSON),
        (f"{at}/search?filter=" + quote('{"a": 1, "a": 1}'), PNG, raw),
        ("/api/collections", b'{"name": "x", "name": "x"}', JSON),
    ):
        answer = await send(people, "POST", path, body, kind)
        assert "twice" in refused(answer), (path, body[:80])


async def test_queries_take_what_the_document_says(people):
    raw = "Content-Type: image/png"
    for path, body, kind in (
        ("/api/collections?name=x", b"", JSON),
        ("/api/collections/people/search?space=" + SPACE, PNG, raw),
        ("/api/collections/people/search?embedding=[1,0]", PNG, raw),
        ("/api/collections/people/search?image=AAAA", PNG, raw),
        ("/api/collections/people/clusters?threshold=0.5", b"", JSON),
    ):
        assert "unknown query parameter" in refused(await send(people, "POST", path, body, kind))
    path = "/api/collections/people/search?limit=2&min_similarity=0.5&filter=%7B%22a%22:true%7D"
    assert (await send(people, "POST", path, PNG, raw)).status == 200


async def test_a_conflict_says_when_to_come_back(monkeypatch):
    # as many requests wait for the first one with their key as may
    monkeypatch.setattr(idempotency, "_MOST_WAITING", 0)
    fake = FakeInference(seconds=0.5)
    start = head(
        "POST",
        "/api/collections/people/faces",
        "Content-Type: image/png",
        "Idempotency-Key: k",
        length=len(PNG),
    )
    async with serving(fake, Embedder()) as client:
        await make(client)
        first = asyncio.ensure_future(exchange(client, [start, PNG]))
        await fake.started.wait()
        answer = await exchange(client, [start, PNG])
        assert "still running" in refused(answer, "conflict")
        assert answer.headers["Retry-After"] == "1"
        assert (await first).status == 201
        answer = await send(client, "POST", "/api/collections", b'{"name": "people"}', JSON)
        refused(answer, "conflict")
        assert "Retry-After" not in answer.headers

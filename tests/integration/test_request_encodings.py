"""Paths, queries, content types and bodies that are encoded badly are client errors."""

import base64
import json

import pytest

from tests.support.fake_inference import photo
from tests.support.raw_http import FORM, JSON, part, people, refused, send

__all__ = ["people"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG = photo()
PACKED = base64.b64encode(PNG).decode()

TARGETS = [
    "/api/collections/%00",
    "/api/collections/a%00b/faces",
    "/api/collections/%ff",
    "/api/collections/%zz",
    "/api/collections/%",
    "/api/collections/%ED%A0%80",
    "/api/collections/people/subjects/%00",
    "/api/collections/" + "a" * 8000,
    "/" + "a" * 100_000,
    "/api/collections?limit=%00",
    "/api/collections?cursor=%00",
    "/api/collections?cursor=%ff%fe",
    "/api/collections?cursor=" + "a" * 600,
    "/api/collections?%00=1",
    "/api/collections?limit=1&limit=1",
    "/api/collections?limit=%zz",
    "/api/collections?limit=true",
    "/api/collections?limit",
    "/api/collections/people/faces?subject=%00",
    "/api/collections/people/faces?subject=%ED%A0%80",
    b"/api/collections/\xff\xfe",
    b"/api/collections?cursor=\xff",
    "*",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_bad_target_is_a_client_error(people, target):
    answer = await send(people, "GET", target)
    assert answer.status in (400, 404)
    refused(answer, "invalid_request" if answer.status == 400 else "not_found")


BODIES = {
    "utf-16": (json.dumps({"name": "x"}).encode("utf-16"), "application/json; charset=utf-16"),
    "lone surrogate": (b'{"name": "x", "description": "\\ud800"}', "application/json"),
    "raw surrogate": (b'{"name": "x", "description": "\xed\xa0\x80"}', "application/json"),
    "surrogate as key": (b'{"name": "x", "\\udfff": 1}', "application/json"),
    "NUL": (b'{"name": "x", "description": "a\\u0000b"}', "application/json"),
    "latin-1": ('{"name": "x", "description": "é"}'.encode("latin-1"), "application/json"),
    "NaN": (b'{"name": "x", "match_threshold": NaN}', "application/json"),
    "too large a number": (b'{"name": "x", "match_threshold": 1e999}', "application/json"),
    "long number": (b'{"name": "x", "match_threshold": ' + b"9" * 9000 + b"}", "application/json"),
    "nested": (b'{"name": ' + b"[" * 50_000, "application/json"),
    "nested objects": (b'{"name":' * 1010 + b"1" + b"}" * 1010, "application/json"),
    "doubled": (b'{"name": "x", "name": "y"}', "application/json"),
    "no object": (b"[]", "application/json"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_json_body_is_a_client_error(people, case):
    body, kind = BODIES[case]
    refused(await send(people, "POST", "/api/collections", body, f"Content-Type: {kind}"))
    for path in ("/api/ml/detect", "/api/collections/people/search"):
        refused(await send(people, "POST", path, body, f"Content-Type: {kind}"))


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON;charset=X", "application/json ;"]
)
async def test_json_is_utf_8_whatever_charset_is_named(people, kind):
    body = b"\xef\xbb\xbf" + json.dumps({"image": PACKED}).encode()
    answer = await send(people, "POST", "/api/ml/detect", body, f"Content-Type: {kind}")
    assert answer.status == 200


@pytest.mark.parametrize(
    "kind", [b"", b";", b"text", b"\xff\xfe", b"application/x-json", b"a/b; c", b"multipart/mixed"]
)
async def test_other_content_types(people, kind):
    for path in ("/api/ml/detect", "/api/collections", "/api/collections/people/search"):
        answer = await send(people, "POST", path, b"x", b"Content-Type: " + kind)
        refused(answer, "unsupported_media_type")


async def test_an_empty_image_is_none_in_every_way_and_route(people):
    for path in (
        "/api/ml/detect",
        "/api/collections/people/faces",
        "/api/collections/people/search",
    ):
        for body, kind in (
            (b"", "Content-Type: image/png"),
            (b'{"image": ""}', JSON),
            (part('name="image"', b"") + b"--b--", FORM),
        ):
            refused(await send(people, "POST", path, body, kind), "invalid_image")


async def test_texts_of_forms_have_a_charset(people):
    body = part('name="subject"', "é".encode("latin-1")) + part('name="image"', PNG) + b"--b--"
    answer = await send(people, "POST", "/api/collections/people/faces", body, FORM)
    assert "not text" in refused(answer)

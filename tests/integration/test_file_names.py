"""Names of files never fail an upload, on any route that takes forms."""

import json

import pytest

from tests.support.fake_inference import photo
from tests.support.raw_http import FORM, part, people, send

__all__ = ["people"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

PNG = photo()

NAMES = {
    'filename="a;b.jpg"': "a;b.jpg",
    'filename="O\'Brien; x.jpg"': "O'Brien; x.jpg",
    "filename*=UTF-8''O%27Brien%20%E6%9D%8E.jpg": "O'Brien 李.jpg",
    'filename="&#1088;&#1055;.jpg"': "&#1088;&#1055;.jpg",
    'filename="a\\"b\\\\c.jpg"': 'a"b\\c.jpg',
    'filename="李.jpg"': "李.jpg",
    'filename="ends with\\"': "ends with\\",
    'filename="' + "n" * 9000 + '"': "n" * 200,
    'filename=""': None,
    "filename*=UTF-8''%ED%A0%80%FF": "\ufffd" * 4,
    "": None,
}


@pytest.mark.parametrize("given", [*NAMES, b'filename="\xe9\xff.jpg"'])
async def test_a_name_of_a_file_never_fails_an_upload(people, given):
    given = given.encode() if isinstance(given, str) else given
    for path, fields in (
        ("/api/ml/detect", ["image"]),
        ("/api/ml/score", ["image"]),
        ("/api/ml/embed", ["image"]),
        ("/api/ml/verify", ["image_a", "image_b"]),
        ("/api/collections/people/faces", ["image"]),
        ("/api/collections/people/faces", ["images", "images"]),
        ("/api/collections/people/search", ["image"]),
    ):
        for order in (b'name="%s"; ' + given, given + b'; name="%s"'):
            parts = [part(order.replace(b"%s", name.encode()), PNG) for name in fields]
            answer = await send(people, "POST", path, b"".join(parts) + b"--b--\r\n", FORM)
            assert answer.status in (200, 201), (path, answer.body)


@pytest.mark.parametrize("given", NAMES)
async def test_the_name_of_a_file_that_is_rejected_is_answered(people, given):
    body = part('name="images"; ' + given, b"no image") + part('name="images"', PNG) + b"--b--"
    answer = await send(people, "POST", "/api/collections/people/faces", body, FORM)
    (rejected,) = json.loads(answer.body)["rejected"]
    assert rejected["name"] == NAMES[given]

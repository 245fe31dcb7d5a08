"""What the gateway refuses over HTTP, with which code, and what it says."""

import base64
import gzip
import logging
import re
from http import HTTPStatus

import pytest

from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import LIMIT, form, post, refused, serving
from tests.support.image_files import chunk

FACE_ROUTES = ["score", "detect", "embed"]


@pytest.fixture
def fake():
    return FakeInference()


@pytest.fixture
async def client(fake):
    async with serving(fake, max_image_bytes=LIMIT, max_image_megapixels=1) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("colour=red", "colour"),
        ("include=everything", "include"),
        ("max_faces=0", "max_faces"),
        ("max_faces=513", "max_faces"),
        ("max_faces=two", "max_faces"),
        ("min_confidence=1.1", "min_confidence"),
        ("min_confidence=nan", "min_confidence"),
        ("max_faces=1&max_faces=2", "max_faces"),
        ("threshold=0.5", "threshold"),
        ("rotation=90", "rotation"),
        ("detail=low", "detail"),
        ("faces=best", "faces"),
    ],
)
async def test_a_wrong_option_is_named(client, fake, query, name):
    detail = await refused(client, f"detect?{query}", "invalid_request", form(image=photo()))
    assert name in detail
    assert fake.needs == []


async def test_an_unknown_option_is_answered_with_the_known_ones(client):
    detail = await refused(client, "score?x=1", "invalid_request", form(image=photo()))
    assert "detail, include, max_faces, min_confidence, rotation" in detail


@pytest.mark.parametrize("threshold", ["2", "-1.1", "nan", "high"])
async def test_a_wrong_threshold_is_named(client, threshold):
    images = {"image_a": photo(), "image_b": photo()}
    for path, texts in (
        ("verify", {"threshold": threshold}),
        (f"verify?threshold={threshold}", {}),
    ):
        detail = await refused(client, path, "invalid_request", form(**images, **texts))
        assert "threshold" in detail


async def test_two_thresholds_contradict(client):
    data = form(image_a=photo(), image_b=photo(), threshold="0.3")
    assert "twice" in await refused(client, "verify?threshold=0.4", "invalid_request", data)


PACKED = base64.b64encode(photo()).decode()
BAD_REQUESTS = {
    "unknown form field": ({"data": form(image=photo(), colour="red")}, "'colour'; known: image"),
    "field missing": ({"data": form()}, "'image' is missing"),
    "unknown JSON field": ({"json": {"image": PACKED, "colour": 1}}, "'colour'; known: image"),
    "JSON field missing": ({"json": {}}, "'image' is missing"),
    "JSON list": ({"json": []}, "JSON object"),
    "JSON number as image": ({"json": {"image": 7}}, "base64"),
    "data URI without base64": ({"json": {"image": "data:image/png,abc"}}, "not base64"),
    "no JSON": (
        {"data": b"{", "headers": {"Content-Type": "application/json"}},
        "the body is not JSON",
    ),
    "number as URL": ({"json": {"image_url": 7}}, "'image_url' must be a URL"),
    "image and URL": ({"json": {"image": PACKED, "image_url": "https://a"}}, "send one"),
    "URL and image in a form": ({"data": form(image_url="https://a", image=b"x")}, "send one"),
    "URL twice": ({"data": form()}, "'image_url' is given twice"),
    "several URLs": ({"json": {"image_urls": ["https://a"]}}, "'image_urls'; known: image"),
    "form without boundary": (
        {"data": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        "well-formed",
    ),
    "form that is none": (
        {"data": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        "",
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
@pytest.mark.parametrize("route", FACE_ROUTES)
async def test_a_bad_request_says_what_is_wrong(client, fake, case, route):
    sent, expected = BAD_REQUESTS[case]
    if "data" in sent and not isinstance(sent["data"], bytes):
        sent = {"data": rebuilt(case)}
    assert expected in await refused(client, route, "invalid_request", **sent)
    assert fake.needs == []


def twice(name, value):
    data = form(**{name: value})
    data.add_field(name, value)
    return data


def rebuilt(case):
    """Forms can be sent only once."""
    return {
        "unknown form field": lambda: form(image=photo(), colour="red"),
        "field missing": form,
        "URL and image in a form": lambda: form(image_url="https://a", image=b"x"),
        "URL twice": lambda: twice("image_url", "https://a"),
    }[case]()


async def test_a_field_given_twice(client):
    data = form(image=photo())
    data.add_field("image", photo(), filename="again.png")
    assert "twice" in await refused(client, "detect", "invalid_request", data)


@pytest.mark.parametrize(
    "declared", [None, "text/plain", "application/x-www-form-urlencoded", "video/mp4"]
)
async def test_other_content_types(client, declared):
    headers = {"Content-Type": declared} if declared else {}
    more = {} if declared else {"skip_auto_headers": ["Content-Type"]}
    await refused(client, "detect", "unsupported_media_type", photo(), headers=headers, **more)


@pytest.mark.parametrize("data", [b"GIF89a" + bytes(50), b"plain text", b"%PDF-1.7"])
async def test_what_is_no_image_by_content(client, data):
    await refused(client, "detect", "unsupported_media_type", form(image=data))


@pytest.mark.parametrize("way", ["form", "raw", "json"])
async def test_an_image_without_bytes(client, way):
    sent = {
        "form": {"data": form(image=b"")},
        "raw": {"data": b"", "headers": {"Content-Type": "image/png"}},
        "json": {"json": {"image": ""}},
    }[way]
    await refused(client, "detect", "invalid_image", **sent)


async def test_base64_that_is_none(client):
    await refused(client, "detect", "invalid_image", json={"image": "&&&&"})


async def test_a_cut_off_image(client, fake):
    data = photo(size=(300, 300))
    await refused(client, "detect", "invalid_image", form(image=data[: len(data) // 2]))
    assert fake.needs == [], "its chunks show that it is cut off"
    (body,) = re.findall(rb"IDAT(.*)....\0\0\0\0IEND", data, re.DOTALL)
    short = data[:33] + chunk(b"IDAT", body[: len(body) // 2]) + chunk(b"IEND", b"")
    await refused(client, "detect", "invalid_image", form(image=short))
    assert len(fake.needs) == 1, "only pixels show that it is cut off, and they are not read here"


@pytest.mark.parametrize("way", ["form", "raw", "json", "chunked", "chunked form"])
async def test_too_many_bytes_are_not_read_to_the_end(client, fake, way):
    read = 0

    async def endless(head: bytes = b""):
        nonlocal read
        yield head
        while read < 400 * LIMIT:
            read += 65536
            yield bytes(65536)

    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    sent = {
        "form": {"data": form(image=bytes(LIMIT + 1))},
        "raw": {"data": bytes(LIMIT + 1), "headers": {"Content-Type": "image/png"}},
        "json": {"json": {"image": base64.b64encode(bytes(LIMIT + 1)).decode()}},
        "chunked": {"data": endless(), "headers": {"Content-Type": "image/png"}},
        "chunked form": {
            "data": endless(part),
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
    }[way]
    detail = await refused(client, "detect", "image_too_large", **sent)
    assert str(LIMIT) in detail
    assert read < 400 * LIMIT
    assert fake.needs == []


async def test_an_image_at_the_limit_passes(fake):
    data = photo()
    async with serving(fake, max_image_bytes=len(data)) as client:
        status, _, _ = await post(client, "detect", form(image=data))
        assert status == HTTPStatus.OK
        for sent in ({"json": {"image": base64.b64encode(data).decode()}},):
            assert (await post(client, "detect", **sent))[0] == HTTPStatus.OK
        await refused(client, "detect", "image_too_large", form(image=data + b"0"))


async def test_too_many_pixels(client, fake):
    data = photo(size=(1001, 1000))
    assert "1001 x 1000" in await refused(client, "detect", "image_too_large", form(image=data))
    assert fake.needs == []


async def test_verify_names_the_image_that_is_wrong(client):
    for name in ("image_a", "image_b"):
        images = {"image_a": photo(), "image_b": photo()}
        blank = images | {name: photo(faces=0)}
        assert name in await refused(client, "verify", "no_face", form(**blank))
        text = images | {name: b"text"}
        assert name in await refused(client, "verify", "unsupported_media_type", form(**text))
        missing = {key: value for key, value in images.items() if key != name}
        assert name in await refused(client, "verify", "invalid_request", form(**missing))
    headers = {"Content-Type": "image/png"}
    await refused(client, "verify", "unsupported_media_type", photo(), headers=headers)


async def test_unknown_paths_and_methods(client):
    async with client.get("/api/ml/nothing") as response:
        body = await response.json(content_type=None)
        assert (response.status, body["code"]) == (404, "not_found")
    async with client.get("/api/ml/score") as response:
        body = await response.json(content_type=None)
        assert (response.status, body["code"]) == (405, "method_not_allowed")
        assert response.headers["Allow"] == "POST"


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
END = b"\r\n--b--\r\n"
BROKEN_FORMS = {
    "nothing": b"",
    "no end": HEAD + b"\r\n" + photo(),
    "a header that is none": b"--b\r\nfoo\r\n\r\nx" + END,
    "a header too long": HEAD + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n" + photo() + END,
    "too many headers": HEAD + b"X-A: 1\r\n" * 1000 + b"\r\n" + photo() + END,
    "a part without a name": b"--b\r\n\r\nx" + END,
    "a form within": HEAD + b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c--" + END,
    "encoded bytes": HEAD + b"Content-Transfer-Encoding: base64\r\n\r\nAAAA" + END,
}


@pytest.mark.parametrize("case", BROKEN_FORMS)
async def test_a_form_that_is_not_well_formed(client, fake, case):
    await refused(client, "detect", "invalid_request", BROKEN_FORMS[case], headers=FORM)
    assert fake.needs == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("body", [gzip.compress(bytes(10 * LIMIT)), b"not packed at all"])
async def test_packed_bodies_are_refused_unopened(client, encoding, body, caplog):
    headers = {"Content-Type": "image/png", "Content-Encoding": encoding}
    await refused(client, "detect", "unsupported_media_type", body, headers=headers)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

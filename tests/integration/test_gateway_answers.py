"""What the gateway answers over HTTP, with the fake engine behind it."""

import base64
import io
from http import HTTPStatus

import numpy as np
import pytest
from PIL import Image

from gateway.types import Need
from tests.support.fake_inference import SPACE, FakeInference, expected_face, photo
from tests.support.gateway_server import LIMIT, form, post, refused, serving, sha256


@pytest.fixture
def fake():
    return FakeInference()


@pytest.fixture
async def client(fake):
    async with serving(fake, max_image_bytes=LIMIT, max_image_megapixels=1) as client:
        yield client


async def test_score_answers_in_the_documented_shape(client):
    data = photo(faces=2, seed=3)
    status, body, _ = await post(client, "score", form(image=data))
    assert status == HTTPStatus.OK
    assert body["image"] == {"width": 200, "height": 120, "sha256": sha256(data)}
    assert [face["score"] for face in body["faces"]] == [1.3, 2.3]
    assert body["score_range"] == [1, 10]
    assert body["models"] == {"detection": "1", "embedding": "2", "scoring": "3", "space": SPACE}
    assert (body["engine"], body["cached"]) == ("triton", False)
    assert set(body["took_ms"]) == {"validate", "inference", "total"}
    assert body["took_ms"]["total"] >= body["took_ms"]["inference"]
    face = body["faces"][1]
    assert set(face) == {"box", "landmarks", "confidence", "quality", "score"}
    assert face["box"] == [10, 0, 109, 99]
    assert face["confidence"] == 0.94
    assert face["quality"]["acceptable"] is True
    assert face["quality"]["reasons"] == []


async def test_detect_has_no_score_and_asks_for_none(client, fake):
    status, body, _ = await post(client, "detect", form(image=photo()))
    assert status == HTTPStatus.OK
    assert "score" not in body["faces"][0]
    assert "score_range" not in body
    assert body["models"] == {"detection": "1", "embedding": None, "scoring": None, "space": None}
    assert fake.needs == [Need.NOTHING_MORE]


async def test_embed_gives_embedding_and_space(client, fake):
    _, body, _ = await post(client, "embed", form(image=photo(seed=2)))
    assert body["faces"][0]["embedding"] == expected_face(0, 2, Need.EMBEDDING).embedding.tolist()
    assert body["models"]["space"] == SPACE
    assert fake.needs == [Need.EMBEDDING]


@pytest.mark.parametrize(
    ("route", "status"), [("score", 422), ("detect", 200), ("embed", 200)], ids=str
)
async def test_no_face(client, route, status):
    answered, body, _ = await post(client, route, form(image=photo(faces=0)))
    assert answered == status
    assert body.get("faces", body.get("code")) == ([] if status == 200 else "no_face")


async def test_include_adds_embedding_and_crop(client, fake):
    _, body, _ = await post(client, "detect?include=embedding,crop", form(image=photo(faces=2)))
    head, _, packed = body["faces"][1]["crop"].partition(",")
    assert head == "data:image/png;base64"
    crop = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))))
    np.testing.assert_array_equal(crop, expected_face(1, 0, Need.CROPS).crop)
    assert len(body["faces"][1]["embedding"]) == 8
    assert fake.needs == [Need.EMBEDDING | Need.CROPS]


async def test_options_select_faces(client):
    _, body, _ = await post(client, "detect?max_faces=2", form(image=photo(faces=5)))
    assert len(body["faces"]) == 2
    _, body, _ = await post(client, "detect?min_confidence=0.945", form(image=photo(faces=5)))
    assert len(body["faces"]) == 1
    await refused(client, "score?min_confidence=0.99", "no_face", form(image=photo(faces=5)))


async def test_how_many_were_found_is_told_beside_those_listed(client, fake):
    for query, listed, found in (
        ("", 32, 40),
        ("?max_faces=5", 5, 40),
        ("?max_faces=40", 40, 40),
        # the fake is less sure of every next one by a hundredth
        ("?max_faces=5&min_confidence=0.845", 5, 11),
        ("?min_confidence=0.9499", 1, 1),
    ):
        _, body, _ = await post(client, f"detect{query}", form(image=photo(faces=40)))
        assert (len(body["faces"]), body["faces_found"]) == (listed, found), query
    # nobody who asks for fewer has other faces computed than all others
    assert [look.max_faces for look in fake.looks] == [32, 32, 40, 32, 32]


async def test_faces_that_are_sure_enough_are_looked_for_beyond_the_usual_ones(client, fake):
    fake.confidences = [0.6] * 35 + [0.9] * 3
    _, body, _ = await post(
        client, "detect?max_faces=2&min_confidence=0.8", form(image=photo(faces=40))
    )
    assert [face["box"][0] for face in body["faces"]] == [350, 360]
    assert body["faces_found"] == 3
    assert [look.max_faces for look in fake.looks] == [32, 37]


async def test_how_an_image_is_looked_at_reaches_the_engine(client, fake):
    _, body, _ = await post(client, "embed?rotation=off&detail=high", form(image=photo()))
    assert body["rotation"] == 0
    images = form(image_a=photo(), image_b=photo())
    await post(client, "verify?rotation=off&detail=high&max_faces=50&faces=best", images)
    looks = [(look.rotation, look.detail, look.max_faces) for look in fake.looks]
    assert looks == [("off", "high", 32)] + [("off", "high", 50)] * 2


async def test_the_most_alike_are_compared_where_that_is_asked(client):
    # face k of the first is e_k, of the second e_(k + 2)
    images = {"image_a": photo(faces=4), "image_b": photo(faces=2, seed=2)}
    _, largest, _ = await post(client, "verify", form(**images))
    assert (largest["similarity"], largest["match"]) == (0, False)
    assert (largest["faces_found_a"], largest["faces_found_b"]) == (4, 2)
    _, best, _ = await post(client, "verify?faces=best", form(**images))
    assert (best["similarity"], best["match"]) == (1, True)
    assert (best["face_a"]["box"][0], best["face_b"]["box"][0]) == (20, 0)
    assert (best["rotation_a"], best["rotation_b"]) == (0, 0)


@pytest.mark.parametrize("way", ["form", "raw", "json", "data uri", "chunked"])
async def test_every_way_of_sending_gives_the_same_faces(client, way):
    data = photo(faces=2)
    packed = base64.b64encode(data).decode()

    async def pieces():
        for start in range(0, len(data), 50):
            yield data[start : start + 50]

    sent = {
        "form": {"data": form(image=data)},
        # the declared type is not believed
        "raw": {"data": data, "headers": {"Content-Type": "image/jpeg"}},
        "json": {"json": {"image": packed}},
        "data uri": {"json": {"image": f"data:image/png;base64,{packed}"}},
        "chunked": {"data": pieces(), "headers": {"Content-Type": "image/png"}},
    }[way]
    status, body, _ = await post(client, "detect", **sent)
    assert status == HTTPStatus.OK, body
    assert body["image"]["sha256"] == sha256(data)
    assert len(body["faces"]) == 2


@pytest.mark.parametrize("way", ["form", "json", "query"])
@pytest.mark.parametrize(("threshold", "match"), [(0.999, True), (1.0, True), (None, True)])
async def test_verify_of_the_same_face(client, way, threshold, match):
    a, b = photo(faces=2), photo(faces=1)
    path, texts = "verify", {}
    if threshold is not None:
        path, texts = (
            (f"verify?threshold={threshold}", {})
            if way == "query"
            else ("verify", {"threshold": threshold})
        )
    if way == "json":
        images = {n: base64.b64encode(d).decode() for n, d in (("image_a", a), ("image_b", b))}
        status, body, _ = await post(client, path, json=images | texts)
    else:
        text = {name: str(value) for name, value in texts.items()}
        status, body, _ = await post(client, path, form(image_a=a, image_b=b, **text))
    assert status == HTTPStatus.OK, body
    assert body["similarity"] == 1.0
    assert body["match"] is match
    assert body["threshold"] == (0.32 if threshold is None else threshold)
    assert body["face_a"]["box"] == [0, 0, 100, 100]
    assert body["image_b"]["sha256"] == sha256(b)


async def test_verify_of_two_faces_is_no_match(client):
    images = form(image_a=photo(seed=0), image_b=photo(seed=1))
    _, body, _ = await post(client, "verify", images)
    assert (body["similarity"], body["match"]) == (0.0, False)


async def test_without_scoring_there_are_no_scores_and_the_rest_works(fake):
    async with serving(fake, scoring="off") as client:
        status, body, _ = await post(client, "score", form(image=photo()))
        assert status == HTTPStatus.OK
        assert "score" not in body["faces"][0]
        assert "score_range" not in body
        assert body["models"]["scoring"] is None
        assert fake.needs == [Need.NOTHING_MORE]
        await refused(client, "score", "no_face", form(image=photo(faces=0)))

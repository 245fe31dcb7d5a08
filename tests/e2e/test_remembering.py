"""Remembering people as a user meets it: enrol three from photos, find one again, forget them."""

import json
from typing import Any

import pytest
import requests
from PIL import Image, ImageEnhance

from tests.support import photos
from tests.support.photos import portraits_in_the_wild


def ask(stack, method: str, path: str, *, status: int, **sent: Any) -> dict[str, Any]:
    answer = requests.request(method, f"{stack.url}{path}", timeout=60, **sent)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
def people(stack):
    """An empty collection, gone at the end."""
    ask(stack, "POST", "/api/collections", status=201, json={"name": "people", "keep": "crop"})
    yield "/api/collections/people"
    requests.delete(f"{stack.url}/api/collections/people", timeout=60)


def another_photo() -> bytes:
    """The portrait as another camera might have taken it: closer, mirrored, dull, small, JPEG."""
    image = photos.portrait().crop((90, 0, 400, 320)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    dull = ImageEnhance.Brightness(image.resize((280, 289))).enhance(0.8)
    return photos.encode(dull, "JPEG", quality=70)


def matches(stack, people: str, image: bytes) -> list[str]:
    found = ask(stack, "POST", f"{people}/search", status=200, files={"image": ("x", image)})
    return [match["subject"] for match in found["faces"][0]["matches"]]


def test_enrol_three_find_one_forget_them(stack, people):
    strangers = [data for _, data in portraits_in_the_wild(every=700, most=4)]
    named = {
        "eileen": photos.PORTRAIT.read_bytes(),
        "bert": strangers[0],
        "cleo": strangers[1],
    }
    for subject, image in named.items():
        answer = ask(
            stack,
            "POST",
            f"{people}/faces",
            status=201,
            files={"image": ("x", image)},
            data={"subject": subject, "metadata": json.dumps({"team": "red"}), "quality": "off"},
        )
        (face,) = answer["faces"]
        assert face["subject"] == subject
        assert face["quality"]["size"] > 40
    assert matches(stack, people, another_photo()) == ["eileen"]
    assert matches(stack, people, strangers[0]) == ["bert"]
    assert matches(stack, people, strangers[2]) == []
    receipt = ask(stack, "DELETE", f"{people}/subjects/eileen", status=200)
    assert (receipt["faces"], receipt["vectors"], receipt["crops"]) == (1, 1, 1)
    assert matches(stack, people, another_photo()) == []
    assert matches(stack, people, strangers[1]) == ["cleo"]
    receipt = ask(stack, "DELETE", people, status=200)
    assert (receipt["faces"], receipt["crops"]) == (2, 2)
    assert ask(stack, "GET", people, status=404)["code"] == "not_found"


def test_a_group_photo_finds_who_is_on_it(stack, people):
    group = photos.group_photo()
    answer = ask(
        stack,
        "POST",
        f"{people}/faces",
        status=201,
        files={"image": ("t1.jpg", group)},
        data={"faces": "all", "quality": "off"},
    )
    assert len(answer["faces"]) == 6
    found = ask(
        stack,
        "POST",
        f"{people}/search",
        status=200,
        files={"image": ("t1.jpg", group)},
        data={"faces": "all"},
    )
    enrolled = [face["subject"] for face in answer["faces"]]
    assert [face["matches"][0]["subject"] for face in found["faces"]] == enrolled
    # strangers may pass the default threshold of a small network, but not come near
    for face in found["faces"]:
        similarities = [match["similarity"] for match in face["matches"]]
        assert similarities[0] == pytest.approx(1, abs=1e-3)
        assert all(similarity < 0.5 for similarity in similarities[1:])
    problem = ask(
        stack,
        "POST",
        f"{people}/faces",
        status=422,
        files={"image": ("t1.jpg", group)},
        data={"faces": "single", "subject": "one"},
    )
    assert problem["code"] == "several_faces"


def test_a_blank_image_enrols_nobody(stack, people):
    answer = ask(
        stack, "POST", f"{people}/faces", status=422, files={"image": ("x", photos.blank())}
    )
    assert answer["code"] == "no_face"
    assert ask(stack, "GET", people, status=200)["faces"] == 0

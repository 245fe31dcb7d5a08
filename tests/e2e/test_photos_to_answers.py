"""The main job as a user meets it: photos over HTTP to the whole stack, answers back."""

import base64
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from gateway.settings import CHECKOUT
from tests.support import photos


def post(url: str, data: bytes, route: str = "score") -> requests.Response:
    return requests.post(f"{url}/api/ml/{route}", files={"image": ("x", data)}, timeout=60)


def test_a_portrait_is_scored_by_triton(stack):
    answer = post(stack.url, photos.PORTRAIT.read_bytes())
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["engine"] == "triton"
    assert body["image"]["width"] == 512
    assert len(body["faces"]) == 1
    assert 1 <= body["faces"][0]["score"] <= 10
    assert re.fullmatch("[0-9a-f]{16}", body["models"]["space"])
    assert [body["models"][stage] for stage in ("detection", "embedding", "scoring")] == ["1"] * 3


def test_the_group_photo_has_six_faces(stack):
    assert len(post(stack.url, photos.group_photo()).json()["faces"]) == 6


def test_the_same_person_matches_and_another_does_not(stack):
    # two crops of one portrait, one of them flipped, and a face of the group photo
    portrait = photos.portrait()
    image_a = photos.encode(portrait, "JPEG", quality=60)
    image_b = photos.encode(portrait.transpose(0).resize((300, 300)))

    def verify(first: bytes, second: bytes) -> dict[str, object]:
        files = {"image_a": ("a", first), "image_b": ("b", second)}
        return requests.post(f"{stack.url}/api/ml/verify", files=files, timeout=60).json()

    same, other = verify(image_a, image_b), verify(image_a, photos.group_photo())
    assert same["match"] is True
    assert other["match"] is False
    assert same["similarity"] > 0.6 > 0.4 > other["similarity"]


def test_200_mixed_requests_at_once_each_get_their_own_answer(stack):
    good, blank, corrupt = photos.PORTRAIT.read_bytes(), photos.blank(), photos.cut_off()
    oversize = photos.blank(9000, 6000)
    group = photos.encode(photos.crowd(2, 3, first=150), "JPEG")
    kinds = {
        "good": (good, 200, None),
        "group": (group, 200, None),
        "blank": (blank, 422, "no_face"),
        "corrupt": (corrupt, 422, "invalid_image"),
        "oversize": (oversize, 413, "image_too_large"),
        "no image": (b"hello", 415, "unsupported_media_type"),
    }
    names = [list(kinds)[number % len(kinds)] for number in range(200)]

    def outcome(name: str) -> tuple[int, str | None]:
        answer = post(stack.url, kinds[name][0])
        return answer.status_code, answer.json().get("code")

    before = embedding_counts(stack)
    with ThreadPoolExecutor(200) as pool:
        outcomes = list(pool.map(outcome, names))
    wrong = [
        (name, got) for name, got in zip(names, outcomes, strict=True) if got != kinds[name][1:]
    ]
    assert wrong == []
    faces, runs = (
        after - earlier for after, earlier in zip(embedding_counts(stack), before, strict=True)
    )
    assert faces >= 7 * names.count("good")
    assert runs < faces, "every face had a run of face_embedding for itself"


def embedding_counts(stack) -> tuple[float, float]:
    """Faces embedded and runs of the network so far, from Triton's own metrics."""
    text = requests.get(f"http://{stack.metrics_address}/metrics", timeout=60).text
    counts = []
    for metric in ("nv_inference_count", "nv_inference_exec_count"):
        pattern = rf'^{metric}{{model="face_embedding",version="\d+"}} (\S+)$'
        counts.append(sum(map(float, re.findall(pattern, text, re.MULTILINE))))
    return counts[0], counts[1]


def test_triton_exports_what_the_chart_scales_by(stack):
    template = CHECKOUT / "deploy" / "helm" / "aurum" / "templates" / "autoscaling.yaml"
    names = set(re.findall(r"\bnv_\w+", template.read_text()))
    assert len(names) == 2
    text = requests.get(f"http://{stack.metrics_address}/metrics", timeout=60).text
    for name in names:
        pattern = rf'^{name}{{model="face_preprocess",version="\d+"}} \d'
        assert re.search(pattern, text, re.MULTILINE), name


@pytest.mark.parametrize("route", ["score", "detect", "embed"])
def test_an_image_can_be_sent_as_form_body_or_json(stack, route):
    data = photos.PORTRAIT.read_bytes()
    url = f"{stack.url}/api/ml/{route}"
    text = base64.b64encode(data).decode()
    answers = [
        requests.post(url, files={"image": ("x", data)}, timeout=60),
        requests.post(url, data=data, headers={"Content-Type": "image/png"}, timeout=60),
        requests.post(url, json={"image": text}, timeout=60),
        requests.post(url, json={"image": f"data:image/png;base64,{text}"}, timeout=60),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    boxes = [answer.json()["faces"][0]["box"] for answer in answers]
    assert all(box == boxes[0] for box in boxes)

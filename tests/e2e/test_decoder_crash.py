"""A picture that crashes its decoder, on the whole stack under load, costs nobody else anything."""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.crashing_decoder import crash_pictures_of, crashing
from tests.support.photos import encode, portrait
from tests.support.serving import Served, make_settings, serving, wait_until, what_is_left

CALLERS = 8
CRASHES = 6
_SECONDS = 120


@pytest.fixture(scope="module")
def frail(real_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A stack whose decoders a marked picture crashes; every answer is computed."""
    folder = tmp_path_factory.mktemp("frail")
    repository = folder / "model_repository"
    shutil.copytree(real_repository, repository)
    crash_pictures_of(repository)
    settings = make_settings(
        folder,
        repository,
        cache="off",
        fallback="off",
        portrait_interval_seconds=0.0,
        request_timeout_seconds=60.0,
        max_wait_seconds=60.0,
        workers=1,
    )
    with serving(settings) as served:
        served.wait_for("Aurum is ready")
        yield served
    assert what_is_left(settings) == []


@pytest.fixture(scope="module")
def pictures() -> tuple[bytes, bytes]:
    """One that is decoded at once, and one that is decoded beside others."""
    small = portrait().convert("RGB")
    return encode(small, "JPEG"), encode(small.resize((2000, 2000)), "JPEG")


def post(url: str, path: str, picture: bytes, **fields: str) -> tuple[int, dict[str, Any]]:
    answer = requests.post(f"{url}{path}", files={"image": picture}, data=fields, timeout=90)
    return answer.status_code, answer.json()


def refused(answer: tuple[int, dict[str, Any]]) -> None:
    status, body = answer
    assert (status, body["code"]) == (422, "invalid_image"), body
    assert body["detail"] == "the image cannot be decoded: the decoder does not survive it"


def test_crashes_under_load_fail_no_other_request(frail, pictures):
    stop = threading.Event()
    answers: Counter[tuple[int, str]] = Counter()

    def call(number: int) -> None:
        while not stop.is_set():
            status, body = post(frail.url, "/api/ml/score", pictures[number % 2])
            answers[status, body.get("engine") or body["code"]] += 1

    with ThreadPoolExecutor(CALLERS) as callers:
        running = [callers.submit(call, number) for number in range(CALLERS)]
        try:
            assert wait_until(lambda: answers.total() >= CALLERS)
            for number in range(CRASHES):
                picture = crashing(pictures[number % 2], number)
                refused(post(frail.url, "/api/ml/score", picture))
            before = answers.total()
            assert wait_until(lambda: answers.total() >= before + CALLERS)
        finally:
            stop.set()
        for each in running:
            each.result()
    # there is no fallback here: Triton answered everything
    assert set(answers) == {(200, "triton")}, answers
    log = (frail.home / "logs" / "triton.log").read_text(errors="replace")
    assert log.count("was ended by SIGSEGV") >= 2 * CRASHES


def test_a_crashing_picture_fails_alone_in_enrolment_and_jobs(frail, pictures):
    url = f"{frail.url}/api/collections"
    assert requests.post(url, json={"name": "crew"}, timeout=30).status_code == 201
    faces = "/api/collections/crew/faces"
    refused(post(frail.url, faces, crashing(pictures[0], 100), subject="x"))
    status, body = post(frail.url, faces, pictures[0], subject="collins")
    assert status == 201, body
    refused(post(frail.url, "/api/collections/crew/search", crashing(pictures[0], 101)))

    names = [f"{number}.jpg" for number in range(9)]
    files = [
        ("images", (name, crashing(pictures[0], 200 + at) if at % 4 == 1 else pictures[0]))
        for at, name in enumerate(names)
    ]
    answer = requests.post(f"{frail.url}/api/ml/score/batch", files=files, timeout=60)
    assert answer.status_code == 202, answer.text
    job = f"{frail.url}/api/ml/jobs/{answer.json()['job_id']}"

    def state() -> dict[str, Any]:
        return dict(requests.get(job, timeout=30).json())

    assert wait_until(lambda: state()["state"] == "done", timeout_seconds=_SECONDS)
    ended = state()
    assert (ended["done"], ended["failed"]) == (7, 2)
    results = requests.get(f"{job}/results", timeout=30).json()["results"]
    codes = {each["name"]: (each.get("error") or {}).get("code") for each in results}
    assert {name for name, code in codes.items() if code} == {"1.jpg", "5.jpg"}
    assert set(codes.values()) == {None, "invalid_image"}


def test_a_picture_that_crashed_is_refused_at_once(frail, pictures):
    picture = crashing(pictures[1], 300)
    refused(post(frail.url, "/api/ml/detect", picture))
    log = frail.home / "logs" / "triton.log"
    crashes = log.read_text(errors="replace").count("was ended by SIGSEGV")
    for _ in range(3):
        refused(post(frail.url, "/api/ml/detect", picture))
    assert log.read_text(errors="replace").count("was ended by SIGSEGV") == crashes

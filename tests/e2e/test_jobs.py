"""A job on the whole stack, whose worker is killed in the middle."""

import os
import re
import signal
import time
from typing import Any

import requests

from tests.support.photos import blank, cut_off, encode, portrait
from tests.support.serving import Served, aurum, wait_until

PHOTOS = 60
OF_A_REQUEST = ("request_id", "took_ms", "cached")
_SECONDS = 180


def photos() -> list[tuple[str, bytes]]:
    """Portraits cut differently, every tenth one twice; then a broken one and one of nothing."""
    made = []
    for number in range(PHOTOS):
        left = number - 1 if number % 10 == 9 else number
        cut = portrait().crop((left, 0, 512, 512))
        made.append((f"{number}.jpg", encode(cut, "JPEG", quality=85)))
    return [*made, ("broken.jpg", cut_off()), ("nothing.png", blank())]


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in OF_A_REQUEST}


def worker_of(stack: Served) -> int:
    """Process of the worker now; 0 while there is none."""
    try:
        return stack.part_pid("worker-1")
    except LookupError:
        return 0


def test_a_killed_worker_loses_and_repeats_nothing(stack: Served) -> None:
    given = photos()
    files = [("images", (name, data)) for name, data in given]
    answer = requests.post(f"{stack.url}/api/ml/score/batch", files=files, timeout=60)
    assert answer.status_code == 202, answer.text
    at = f"{stack.url}/api/ml/jobs/{answer.json()['job_id']}"

    def state() -> dict[str, Any]:
        return dict(requests.get(at, timeout=30).json())

    assert wait_until(lambda: state()["done"] >= 10, timeout_seconds=_SECONDS)
    killed = worker_of(stack)
    os.kill(killed, signal.SIGKILL)
    assert state()["state"] == "running", "it was killed too late"
    assert wait_until(lambda: state()["state"] == "done", timeout_seconds=_SECONDS)
    assert worker_of(stack) not in (0, killed)

    job = state()
    assert (job["total"], job["done"], job["failed"]) == (PHOTOS + 2, PHOTOS, 2)
    results = requests.get(f"{at}/results?limit=1000", timeout=30).json()["results"]
    assert [each["name"] for each in results] == [name for name, _ in given]
    # the killed worker's answers, had they come, would be events of their own
    events = requests.get(f"{at}/events", timeout=60).text
    ids = re.findall(r"^id: (\d+)$", events, re.MULTILINE)
    assert len(set(ids)) == len(ids) == len(given)

    for number in (0, 8, 9, PHOTOS - 1):
        name, data = given[number]
        route = requests.post(f"{stack.url}/api/ml/score", files={"image": data}, timeout=60)
        assert comparable(results[number]["result"]) == comparable(route.json()), name
    assert results[8]["result"]["faces"] == results[9]["result"]["faces"]
    for number in (PHOTOS, PHOTOS + 1):
        route = requests.post(
            f"{stack.url}/api/ml/score", files={"image": given[number][1]}, timeout=60
        )
        problem = route.json()
        expected = {"code": problem["code"], "detail": problem["detail"]}
        assert results[number]["error"] == expected

    # images of answers are gone, those of errors are kept for a retry; the killed worker may have
    # recorded answers whose images it had no time to delete
    folder = stack.home / "jobs" / job["job_id"]
    most_at_once = stack.settings.worker_concurrency
    assert wait_until(lambda: len([*folder.iterdir()]) <= 2 + most_at_once)
    kept = {int(each.name) for each in folder.iterdir()}
    assert {PHOTOS, PHOTOS + 1} <= kept


def test_the_stack_is_ready_without_its_worker(stack: Served) -> None:
    assert wait_until(lambda: worker_of(stack) != 0)
    os.kill(worker_of(stack), signal.SIGKILL)
    status = aurum(stack.settings, "status")
    assert status.returncode == 0, status.stdout
    assert "worker-1: pid" in status.stdout
    assert requests.get(f"{stack.url}/api/health/ready", timeout=30).status_code == 200


def test_a_worker_gives_back_its_images_when_it_is_told_to_end(stack: Served) -> None:
    files = [("images", (name, data)) for name, data in photos()[:16]]
    query = {"operation": "detect"}
    answer = requests.post(f"{stack.url}/api/ml/score/batch", params=query, files=files, timeout=60)
    at = f"{stack.url}/api/ml/jobs/{answer.json()['job_id']}"
    assert wait_until(
        lambda: requests.get(at, timeout=30).json()["done"] >= 3, timeout_seconds=_SECONDS
    )
    ended = worker_of(stack)
    started = time.monotonic()
    os.kill(ended, signal.SIGTERM)
    assert wait_until(lambda: worker_of(stack) not in (0, ended), timeout_seconds=30)
    assert time.monotonic() - started < 20
    done = requests.get(f"{at}?wait=60", timeout=90).json()
    assert (done["state"], done["done"]) == ("done", 16)

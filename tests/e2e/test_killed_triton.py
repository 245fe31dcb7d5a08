"""Triton is killed under load: the fallback engine answers, and Triton again once it is back."""

import os
import signal
import threading
import time
from collections import Counter

import requests

from tests.support import photos
from tests.support.serving import wait_until
from triton_python_backend import contract

PATIENCE_SECONDS = 60
CALLERS = 4


class Load:
    """Callers that score a photo again and again; counts statuses and engines by phase."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._photo = photos.PORTRAIT.read_bytes()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        self.answers: Counter[tuple[int, str]] = Counter()
        self.scores: set[float] = set()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                files = {"image": ("x", self._photo)}
                answer = session.post(f"{self._url}/api/ml/score", files=files, timeout=90)
                body = answer.json()
                self.answers[answer.status_code, body.get("engine") or body["code"]] += 1
                if answer.ok:
                    self.scores.add(round(body["faces"][0]["score"], 3))
                else:
                    assert int(answer.headers["Retry-After"]) >= 1
                    time.sleep(0.2)


def post(url: str) -> requests.Response:
    files = {"image": ("x", photos.PORTRAIT.read_bytes())}
    return requests.post(f"{url}/api/ml/score", files=files, timeout=90)


def test_killed_triton_is_replaced_under_load_until_it_is_back(changed):
    # this stack does not cache: every answer is computed
    assert post(changed.url).json()["engine"] == "triton"
    with Load(changed.url) as load:
        assert wait_until(lambda: load.answers[200, "triton"] >= CALLERS)
        os.kill(changed.pid, signal.SIGKILL)
        # the request after it died is not lost
        assert post(changed.url).status_code == 200
        assert wait_until(lambda: load.answers[200, "fallback"] >= CALLERS, timeout_seconds=60)
        ready = requests.get(f"{changed.url}/api/health/ready", timeout=30)
        assert ready.status_code == 200
        if ready.json()["status"] == "degraded":
            assert ready.json()["parts"]["triton"]["status"] == "degraded"
            assert ready.json()["parts"]["fallback"]["status"] == "ready"
        wait_until_ready(changed)
        answered = load.answers[200, "triton"]
        assert wait_until(lambda: load.answers[200, "triton"] > answered + CALLERS)
    # nothing failed, and both engines agree
    assert set(load.answers) == {(200, "triton"), (200, "fallback")}, load.answers
    assert len(load.scores) == 1
    assert post(changed.url).json()["engine"] == "triton"
    metrics = requests.get(f"{changed.url}/metrics", timeout=30).text
    assert 'aurum_circuit_open{upstream="triton"} 0.0' in metrics
    assert 'aurum_inference_seconds_count{engine="fallback"}' in metrics


def test_kserve_refuses_while_triton_is_away(changed):
    path = f"{changed.url}/v2/models/{contract.PIPELINE.name}/ready"
    assert requests.get(path, timeout=30).status_code == 200
    os.kill(changed.pid, signal.SIGKILL)
    answer = requests.get(path, timeout=30)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    wait_until_ready(changed)


def wait_until_ready(stack) -> None:
    """Wait for Triton's own readiness, then for the gateway to serve with it again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _says_ready(f"http://{stack.http_address}/v2/models/{contract.PIPELINE.name}/ready"):
        assert time.monotonic() < deadline, "the supervisor did not restart Triton"
        time.sleep(0.2)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _is_ready(stack.url):
        assert time.monotonic() < deadline, "the gateway did not recover"
        time.sleep(0.2)


def _says_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=30).status_code == 200
    except requests.ConnectionError:
        return False


def _is_ready(url: str) -> bool:
    return requests.get(f"{url}/api/health/ready", timeout=30).json()["status"] == "ready"

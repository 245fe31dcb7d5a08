"""Triton is killed under a user: an honest refusal, and the service comes back by itself."""

import os
import signal
import time

import requests

from tests.support import photos
from triton_python_backend import contract

RECOVERY_SECONDS = 15


def post(url: str, data: bytes) -> requests.Response:
    return requests.post(f"{url}/api/ml/score", files={"image": ("x", data)}, timeout=60)


def test_killed_triton_is_503_and_comes_back(changed):
    # this stack does not cache: a cached answer would outlive Triton
    good = photos.PORTRAIT.read_bytes()
    assert post(changed.url, good).status_code == 200
    os.kill(changed.pid, signal.SIGKILL)
    answer = post(changed.url, good)
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] == "inference_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"] == "application/problem+json"
    wait_until_ready(changed)
    assert post(changed.url, good).status_code == 200


def wait_until_ready(stack) -> None:
    """Wait for Triton's own readiness, then at most 15 s for the gateway to serve again."""
    deadline = time.monotonic() + 60
    while not _says_ready(f"http://{stack.http_address}/v2/models/{contract.PIPELINE.name}/ready"):
        assert time.monotonic() < deadline, "the supervisor did not restart Triton"
        time.sleep(0.2)
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not _says_ready(f"{stack.url}/api/health/ready"):
        assert time.monotonic() < deadline, "the gateway did not recover"
        time.sleep(0.2)


def _says_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False

"""`aurum up` and `down`: Triton and the gateway together, killed and recovered."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gateway.settings import CHECKOUT, Settings
from tests.support.serving import (
    Served,
    aurum,
    aurum_process,
    copy_repository,
    make_settings,
    serving,
    wait_until,
    what_is_left,
)
from tests.support.tiny_weights import write_tiny_weights
from triton_python_backend.liveness import lost_stages

PORTRAIT = CHECKOUT / "tools" / "golden" / "eileen_collins.png"


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    repository = copy_repository(tmp_path / "model_repository")
    write_tiny_weights(repository)
    # with the fallback, a killed Triton is seen in tests/e2e/test_killed_triton.py
    made = make_settings(tmp_path, repository, fallback="off")
    yield made
    aurum(made, "down")
    assert what_is_left(made) == []


def ask(settings: Settings, path: str, body: bytes | None = None) -> tuple[int, str, str]:
    """Return status, code of the problem and Retry-After."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.port}{path}", body, {"Content-Type": "image/png"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, "", ""
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        return error.code, problem.get("code", ""), error.headers.get("Retry-After", "")


def test_up_returns_when_ready_and_down_leaves_nothing(settings: Settings) -> None:
    # as processes of their own, as a user calls them
    first = aurum_process(settings, "up")
    assert first.returncode == 0, first.stderr
    assert f"http://127.0.0.1:{settings.port}" in first.stdout.splitlines()[-1]
    assert ask(settings, "/api/health/ready")[0] == 200
    assert ask(settings, "/api/ml/detect", PORTRAIT.read_bytes())[0] == 200

    second = aurum(settings, "up")
    assert second.returncode == 0
    assert f"Already running: http://127.0.0.1:{settings.port}" in second.stdout
    refused = aurum(settings, "serve")
    assert refused.returncode == 1
    assert f"already served at http://127.0.0.1:{settings.port}" in refused.stderr
    status = aurum(settings, "status")
    assert status.returncode == 0
    assert all(name in status.stdout for name in ("triton", "gateway", "ready"))

    down = aurum_process(settings, "down")
    assert (down.returncode, down.stdout) == (0, "Stopped\n")
    assert what_is_left(settings) == []
    assert "was not served" in aurum(settings, "down").stdout


def test_the_parts_and_a_stage_recover_from_being_killed(settings: Settings) -> None:
    image = PORTRAIT.read_bytes()
    with serving(settings) as served:
        served.wait_for("Aurum is ready")
        os.kill(served.pid, signal.SIGKILL)

        status, code, retry_after = ask(settings, "/api/ml/detect", image)

        assert (status, code) == (503, "inference_unavailable")
        assert int(retry_after) > 0
        assert wait_until(lambda: ask(settings, "/api/ml/detect", image)[0] == 200)

        kill_gateway_and_wait(served)
        assert ask(settings, "/api/ml/detect", image)[0] == 200

        # by the kernel, when memory runs out; Triton itself does not notice
        triton = psutil.Process(served.pid)
        stage = next(x for x in triton.children() if x.name().startswith("triton_python_b"))
        stage.kill()
        # the stage stays as a zombie: what a container's health check sees, too
        assert wait_until(lambda: lost_stages(triton.pid) == {stage.pid})
        assert f"stage ({stage.pid}) was killed" in served.wait_for("triton cannot go on")
        served.wait_for("triton is ready again")
        assert wait_until(lambda: ask(settings, "/api/ml/detect", image)[0] == 200)


def kill_gateway_and_wait(served: Served) -> None:
    gateway = served.part_pid("gateway")
    os.kill(gateway, signal.SIGKILL)
    assert "SIGKILL" in served.wait_for("gateway was ended")
    served.wait_for("gateway is ready again")
    assert served.part_pid("gateway") != gateway

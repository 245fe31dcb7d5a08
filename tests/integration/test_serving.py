"""`aurum serve triton`: life, death and what is left, with the real server where it matters."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tritonclient.http

from gateway.settings import Settings
from tests.support.scripted_triton import replace_server
from tests.support.serving import (
    Served,
    aurum,
    copy_repository,
    make_settings,
    serving,
    wait_until,
    what_is_left,
)
from tests.support.tiny_weights import write_tiny_weights
from tools.serving.processes import is_alive, record
from triton_python_backend.contract import DETECTION, STAGES


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings for the real stages with tiny weights."""
    repository = copy_repository(tmp_path / "model_repository")
    write_tiny_weights(repository)
    made = make_settings(tmp_path, repository)
    yield made
    aurum(made, "down")
    assert what_is_left(made) == []


@pytest.fixture
def scripted(settings: Settings) -> Settings:
    """Settings for the stand-in of the server: what surrounds it is under test."""
    replace_server(settings)
    return settings


def is_ready(served: Served) -> bool:
    with tritonclient.http.InferenceServerClient(served.http_address) as client:
        return bool(client.is_server_live() and client.is_server_ready())


def ready_stages(served: Served) -> set[str]:
    with tritonclient.http.InferenceServerClient(served.http_address) as client:
        index = client.get_model_repository_index()
    return {entry["name"] for entry in index if entry.get("state") == "READY"}


def test_all_stages_load_once_and_sigterm_leaves_nothing(settings: Settings) -> None:
    with serving(settings, "triton") as served:
        line = served.wait_for("Triton is ready")
        for address in (served.http_address, served.grpc_address, served.metrics_address):
            assert address in line
        assert is_ready(served)
        assert ready_stages(served) == {stage.name for stage in STAGES}
        stub = psutil.Process(served.pid).children()[0]

        assert served.end(signal.SIGTERM) == 0
        # killed; init takes a moment to bury it
        stub.wait(60)
    assert what_is_left(settings) == []
    # a second load of a stage means that something wrote into its version folder
    log = (settings.home / "logs" / "triton.log").read_text()
    assert log.count("successfully loaded") == len(STAGES)


def test_the_stand_in_for_the_server_behaves_as_it_does(scripted: Settings) -> None:
    # the same of the real one: the tests above and below
    with serving(scripted, "triton") as served:
        line = served.wait_for("Triton is ready")
        assert served.http_address in line
        assert is_ready(served)
        assert ready_stages(served) == {stage.name for stage in STAGES}
        first = served.pid
        os.kill(first, signal.SIGKILL)
        assert "SIGKILL" in served.wait_for("starting it again")
        served.wait_for("ready again")
        assert served.pid != first
        os.kill(served.pid, signal.SIGTERM)
        served.wait_for("triton ended with code 0")
        assert served.end(signal.SIGTERM) == 0
    assert what_is_left(scripted) == []


def test_second_start_is_refused_with_the_address_of_the_first(scripted: Settings) -> None:
    settings = scripted
    with serving(settings, "triton") as served:
        served.wait_for("Triton is ready")
        before = served.pid

        second = aurum(settings, "serve", "triton")

        assert second.returncode == 1
        assert f"already served at http://{served.http_address}" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert served.pid == before
        assert aurum(settings, "status").returncode == 0
        assert aurum(settings, "down").returncode == 0
        assert what_is_left(settings) == []
        assert served.process.wait(60) == 0
    assert aurum(settings, "status").returncode == 1
    assert aurum(settings, "down").returncode == 0


def test_killed_triton_is_started_again_and_ctrl_c_ends_it(settings: Settings) -> None:
    with serving(settings, "triton") as served:
        served.wait_for("Triton is ready")
        first = served.pid

        os.kill(first, signal.SIGKILL)

        assert "SIGKILL" in served.wait_for("starting it again")
        served.wait_for("ready again")
        assert served.pid != first
        assert ready_stages(served) == {stage.name for stage in STAGES}
        # one that is ended by someone else is started again, too, and may be stopped meanwhile
        os.kill(served.pid, signal.SIGTERM)
        served.wait_for("triton ended with code 0")
        assert served.end(signal.SIGINT) == 0
    assert what_is_left(settings) == []


def test_what_a_crashed_supervisor_left_is_ended_by_the_next_start(scripted: Settings) -> None:
    settings = scripted
    with serving(settings, "triton") as crashed:
        crashed.wait_for("Triton is ready")
        orphan = record(crashed.pid)
        crashed.process.kill()
        crashed.process.wait()
    assert is_alive(orphan)

    with serving(settings, "triton") as served:
        served.wait_for("Triton is ready")
        assert not is_alive(orphan)
        assert ready_stages(served) == {stage.name for stage in STAGES}


def test_down_ends_what_a_crashed_supervisor_left(settings: Settings) -> None:
    with serving(settings, "triton") as crashed:
        crashed.wait_for("Triton is ready")
        crashed.process.kill()
        crashed.process.wait()

    assert aurum(settings, "down").returncode == 0
    assert what_is_left(settings) == []


def test_broken_new_version_does_not_stop_a_running_server(settings: Settings) -> None:
    stage = settings.model_repository / DETECTION.name
    with serving(settings, "triton") as served:
        served.wait_for("Triton is ready")
        aside = settings.home / "aside"
        aside.mkdir()
        (aside / "model.onnx").write_bytes(b"no network")
        aside.rename(stage / "2")
        log = settings.home / "logs" / "triton.log"

        assert wait_until(lambda: "failed to load 'face_detection' version 2" in log.read_text())
        assert ready_stages(served) == {stage.name for stage in STAGES}
        shutil.rmtree(stage / "2")

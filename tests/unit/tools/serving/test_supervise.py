"""The supervisor's process: what it imports, and what it is handed."""

import subprocess
import sys

import pytest

from gateway.settings import CHECKOUT, Settings
from tools.serving.home import Home
from tools.serving.proven import are_proven, note_proven
from tools.serving.run_plan import RunPlan
from tools.serving.run_settings import RunSettings
from tools.serving.triton_install import Installation
from tools.serving.triton_part import TritonPart
from triton_python_backend.contract import ONNX_STAGES, PIPELINE, candidate_of

HEAVY = {"aiohttp", "cv2", "google", "numpy", "onnxruntime", "pydantic", "redis", "sqlalchemy"}


def test_the_supervisor_imports_no_large_library():
    code = "import sys, tools.serving.supervise; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(said.stdout.split())


@pytest.mark.parametrize("extent", ["all", "triton"])
def test_a_plan_survives_being_handed_over(tmp_path, extent):
    settings = Settings(home=tmp_path, model_repository=tmp_path / "models", port=8123)
    plan = RunPlan(RunSettings.of(settings), extent, tmp_path / "server", with_redis=True)
    read = RunPlan.from_json(plan.to_json())
    assert read == plan
    names = {"all": ["triton", "redis", "gateway", "worker-1"], "triton": ["triton"]}
    assert [part.name for part in read.parts()] == names[extent]


@pytest.fixture
def repository(tmp_path):
    for stage in ONNX_STAGES:
        folder = tmp_path / "models" / stage.name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(stage.name.encode())
    return tmp_path / "models"


def change_a_network(repository):
    (repository / "face_scoring" / "1" / "model.onnx").write_bytes(b"another")


def add_a_version(repository):
    (repository / "face_scoring" / "2").mkdir()


def try_a_version(repository):
    (repository / candidate_of(PIPELINE.name)).mkdir()


def test_weights_that_passed_are_known_until_something_changes(tmp_path, repository):
    home = Home(tmp_path / "home")
    assert not are_proven(home, repository)
    note_proven(home, repository)
    assert are_proven(home, repository)


@pytest.mark.parametrize("change", [change_a_network, add_a_version, try_a_version])
def test_a_change_is_seen(tmp_path, repository, change):
    home = Home(tmp_path / "home")
    note_proven(home, repository)
    change(repository)
    assert not are_proven(home, repository)


def test_another_check_or_runtime_counts_as_a_change(tmp_path, repository, monkeypatch):
    home = Home(tmp_path / "home")
    note_proven(home, repository)
    monkeypatch.setattr("triton_python_backend.fingerprint._processor", lambda: "another")
    assert not are_proven(home, repository)


def test_triton_is_drained_when_it_says_so_after_the_signal(tmp_path):
    settings = RunSettings.of(Settings(home=tmp_path, model_repository=tmp_path))
    part = TritonPart(settings, Home(tmp_path), Installation(tmp_path))
    assert not part.is_drained(0)
    part.log.parent.mkdir()
    said = 'server.cc:336] "All models are stopped, unloading models"\n'
    part.log.write_text(said)
    assert not part.is_drained(len(said))
    with part.log.open("a") as log:
        log.write(f"Signal (15) received.\n{said}")
    assert part.is_drained(len(said))

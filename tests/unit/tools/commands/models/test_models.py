import shutil

import pytest
from typer.testing import CliRunner

from gateway.settings import CHECKOUT
from tests.support import tiny_sources
from tests.support.serving import free_ports
from tools.__main__ import app


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("AURUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AURUM_TRITON_HTTP_PORT", str(free_ports(1)[0]))


@pytest.fixture
def repository(tmp_path):
    stage = tmp_path / "repository" / "face_embedding"
    stage.mkdir(parents=True)
    shutil.copy(CHECKOUT / "model_repository" / stage.name / "config.pbtxt", stage)
    return stage.parent


def run(*arguments):
    return CliRunner().invoke(app, ["models", "import", *map(str, arguments)])


def test_placed_versions_are_shown(repository, tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    options = ("--version", 4, "--mean", 3, "--licence", "MIT")
    result = run("--embedding", path, "--repository", repository, *options)
    assert result.exit_code == 0
    assert "face_embedding" in result.stdout
    sidecar = (repository / "face_embedding" / "4" / "model.json").read_text()
    assert '"licence": "MIT"' in sidecar
    assert "(x-3.0)/127.5" in sidecar


def test_a_refusal_is_one_sentence_with_status_1(repository, tmp_path):
    path = tiny_sources.save_head(tmp_path / "head.onnx", [1.0])
    result = run("--embedding", path, "--repository", repository)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {path} is not an embedding network: it takes [?,1]")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_the_error_names_a_misspelt_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("AURUM_MODEL_REPOSITORI", str(tmp_path))
    path = tiny_sources.save_head(tmp_path / "head.onnx", [1.0])
    result = run("--scoring", path)
    assert result.exit_code == 1
    assert "AURUM_MODEL_REPOSITORI" in result.stderr

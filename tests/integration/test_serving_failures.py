"""Every way in which a start fails ends in one line with the cause, and leaves nothing."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.support.command_line import Finished
from tests.support.scripted_triton import replace_server
from tests.support.serving import (
    aurum,
    aurum_process,
    copy_repository,
    make_settings,
    shared_installation,
    variables,
    what_is_left,
)
from tests.support.tiny_weights import write_tiny_weights
from tools.serving import triton_environment, triton_install
from tools.serving.errors import ServingError
from tools.serving.home import Home


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    repository = copy_repository(tmp_path / "model_repository")
    write_tiny_weights(repository)
    made = make_settings(tmp_path, repository)
    yield made
    assert what_is_left(made) == []


def failure(
    settings: Settings, *command: str, call: Callable[..., Finished] = aurum_process
) -> str:
    """Run a start that fails; return its only line on standard error."""
    result = call(settings, *(command or ("serve", "triton")))
    assert result.returncode == 1, result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def log_of(settings: Settings) -> str:
    return str(settings.home / "logs" / "triton.log")


@pytest.mark.parametrize(
    ("field", "command"),
    [
        ("triton_http_port", ("serve", "triton")),
        ("triton_grpc_port", ("serve", "triton")),
        ("triton_metrics_port", ("serve", "triton")),
        ("port", ("serve",)),
        ("port", ("up",)),
    ],
)
def test_port_in_use(settings: Settings, field: str, command: tuple[str, ...]) -> None:
    port = getattr(settings, field)
    with socket.create_server(("127.0.0.1", port)):
        line = failure(settings, *command)
    assert f"port {port} " in line
    assert f"AURUM_{field.upper()}" in line
    assert "is in use" in line


def test_one_port_for_two_listeners(settings: Settings) -> None:
    both = settings.model_copy(update={"triton_grpc_port": settings.triton_http_port})
    assert "AURUM_TRITON_GRPC_PORT" in failure(both)


def test_no_weights_says_how_to_get_some(settings: Settings) -> None:
    for weights in settings.model_repository.glob("*/*/model.onnx"):
        shutil.rmtree(weights.parent)
    line = failure(settings)
    assert "AURUM_MODEL_MIRROR" in line
    assert "aurum models import --detection FILE" in line


def test_misspelt_setting_stops_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**variables(settings), "AURUM_PROT": "1"}
    monkeypatch.setattr("tests.support.serving.variables", lambda _: given)
    for call in (aurum, aurum_process):
        line = failure(settings, call=call)
        assert "unknown setting AURUM_PROT; did you mean AURUM_PORT?" in line


def test_stage_that_raises_is_named_with_cause_and_log(settings: Settings) -> None:
    model = settings.model_repository / "face_alignment" / "1" / "model.py"
    model.write_text("raise RuntimeError('the template is gone')\n")
    line = failure(settings)
    assert "face_alignment" in line
    assert "RuntimeError: the template is gone" in line
    assert log_of(settings) in line


def test_stage_with_a_broken_network_is_named(settings: Settings) -> None:
    network = settings.model_repository / "face_embedding" / "1" / "model.onnx"
    network.write_bytes(b"no network")
    line = failure(settings)
    assert "could not load face_embedding" in line
    assert log_of(settings) in line


def test_stage_with_a_broken_config_is_named(settings: Settings) -> None:
    config = settings.model_repository / "face_results" / "config.pbtxt"
    config.write_text("nonsense\n")
    line = failure(settings)
    assert "could not load face_results: failed to read text proto" in line


def test_stage_that_is_missing_is_named(settings: Settings) -> None:
    shutil.rmtree(settings.model_repository / "face_preprocess")
    line = failure(settings)
    assert f"could not load face_preprocess: no such stage in {settings.model_repository}" in line


def test_server_that_dies_is_explained_by_its_last_error(settings: Settings) -> None:
    replace_server(settings, "#!/bin/sh\necho 'no room left for anything'\nexit 3\n")
    line = failure(settings)
    assert "triton ended with code 3: no room left for anything" in line
    assert log_of(settings) in line


def test_server_that_is_killed_at_start(settings: Settings) -> None:
    replace_server(settings, "#!/bin/sh\nkill -SEGV $$\n")
    assert "triton was ended by SIGSEGV" in failure(settings)


def test_server_that_never_answers_runs_into_the_timeout(settings: Settings) -> None:
    # its child ignores SIGTERM, too: the whole session is ended
    replace_server(settings, "#!/bin/sh\ntrap '' TERM\nsleep 600 & wait\n")
    hasty = settings.model_copy(update={"triton_start_timeout_seconds": 1.0})
    assert "triton was not ready after 1 seconds" in failure(hasty)


def test_missing_library_is_named(settings: Settings) -> None:
    home = Home(settings.home)
    installation = shared_installation()
    backends = triton_environment.assemble_backends(home, installation)
    with pytest.raises(ServingError, match=r"libtriton_python\.so needs libraries .*libcudart"):
        triton_environment.check(installation, backends, {"LD_LIBRARY_PATH": ""})


def test_missing_libpython_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(settings.home)
    installation = shared_installation()
    backends = triton_environment.assemble_backends(home, installation)
    monkeypatch.setattr(triton_environment, "find_libpython", lambda: None)
    with pytest.raises(ServingError, match=r"libpython3\.11\.so\.1\.0 .*apt-get install"):
        triton_environment.check(installation, backends, {})


def test_numpy_2_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_environment, "version", lambda _: "2.1.0")
    installation = shared_installation()
    with pytest.raises(ServingError, match=r"numpy 2\.1\.0"):
        triton_environment.check(installation, settings.home, {})


def test_wheel_with_another_digest_is_refused_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_install, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(ServingError, match="cannot be downloaded"):
        triton_install.install(tmp_path, report=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["install.lock"]


def test_up_that_fails_says_why_and_leaves_nothing(settings: Settings) -> None:
    replace_server(settings, "#!/bin/sh\necho 'no room left for anything'\nexit 3\n")
    line = failure(settings, "up")
    assert "no room left for anything" in line
    assert what_is_left(settings) == []
    assert aurum(settings, "status").returncode == 1


def test_half_written_installation_is_made_anew(tmp_path: Path) -> None:
    shared = shared_installation().root
    half = tmp_path / shared.name
    shutil.copytree(shared, half, copy_function=os.symlink)
    (half / "installed-from").unlink()
    triton_install.Installation(half).stub.unlink()

    made = triton_install.install(tmp_path, report=lambda _: None)

    assert made.stub.stat().st_size == shared_installation().stub.stat().st_size
    assert triton_install.install(tmp_path, report=lambda _: None) == made

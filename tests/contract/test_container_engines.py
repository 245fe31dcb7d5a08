"""Real engines and the recorded one keep the same promises to the adapter.

Docker's client and Podman's ask the service of a Podman with a storage of its own. Where it may
start no containers, for want of namespaces, `up` fails, and has to say so.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import run_in_process
from tests.support.prerequisites import is_missing
from tests.support.recorded_engine import RecordedEngine
from tests.support.serving import wait_until
from tools.deploying.compose_engine import ComposeEngine
from tools.deploying.engine import Project
from tools.deploying.errors import EngineError

_IMAGE = "localhost/tiny:1"
_COMPOSE = f"""\
name: contract
services:
  tiny:
    image: {_IMAGE}
    network_mode: none
    command: ["/nothing", "$$HOME"]
"""


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serve Podman's API from a storage with one tiny image; yields variables for clients."""
    if not shutil.which("podman"):
        is_missing("podman is not installed")
    folder = tmp_path_factory.mktemp("podman")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
    )
    compose = Path(sys.executable).parent / "docker-compose"
    for place in ("cli-plugins", "bin"):
        (folder / place).mkdir()
        (folder / place / "docker-compose").symlink_to(compose)
    socket = folder / "socket"
    environment = {
        **os.environ,
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "DOCKER_CONFIG": str(folder),
        "DOCKER_HOST": f"unix://{socket}",
        # before an older docker-compose of the machine
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    archive = folder / "tiny.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"), io.BytesIO())
    subprocess.run(
        ["podman", "import", str(archive), _IMAGE], env=environment, check=True, capture_output=True
    )
    with (folder / "service.log").open("wb") as log:
        service = subprocess.Popen(
            ["podman", "system", "service", "--time", "0", f"unix://{socket}"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        assert wait_until(socket.exists)
        yield environment
    finally:
        service.terminate()
        service.wait(30)
        left = ["podman", "rmi", "--all", "--force"]
        subprocess.run(left, env=environment, check=False, capture_output=True)


@pytest.fixture(params=["docker", "podman", "recorded"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ComposeEngine:
    """Each engine with the image, and no container."""
    if request.param == "recorded":
        recorded = RecordedEngine.make(tmp_path / "engine")
        recorded.change(images={_IMAGE: f"sha256:{'1' * 64}"})
        monkeypatch.setenv("PATH", f"{recorded.bin}{os.pathsep}{os.environ['PATH']}")
        return ComposeEngine("docker", log=lambda _: None)
    if request.param == "docker" and not shutil.which("docker"):
        pytest.skip("Docker's client is not installed; Debian has Podman only")
    for name, value in request.getfixturevalue("podman").items():
        monkeypatch.setenv(name, value)
    return ComposeEngine(request.param, log=lambda _: None)


def test_an_engine_says_what_it_is(engine: ComposeEngine) -> None:
    facts = engine.facts()
    assert re.fullmatch(r"\d+\.\d+\.\d+", facts.version)
    assert facts.compose_version == "5.6.1"
    assert facts.root is not None
    assert facts.root.is_dir()
    assert facts.runtimes


def test_images_are_found_named_and_forgotten(engine: ComposeEngine) -> None:
    assert engine.image("localhost/missing:1") is None
    found = engine.image(_IMAGE)
    assert found is not None
    assert re.fullmatch("sha256:[0-9a-f]{64}", found.id)
    name = "localhost/contract-release/tiny:7"
    engine.tag(found.id, name)
    named = engine.image(name)
    assert named is not None
    assert named.id == found.id
    by_id = engine.image(found.id)
    assert by_id is not None
    engine.untag(name)
    assert engine.image(name) is None
    assert engine.image(_IMAGE) is not None
    with pytest.raises(EngineError, match="missing"):
        engine.untag("localhost/missing:1")


def test_a_project_is_resolved_started_listed_and_removed(
    engine: ComposeEngine, tmp_path: Path
) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(_COMPOSE)
    project = Project(tmp_path, (file,))
    content = engine.configuration(project)
    assert content["name"] == "contract"
    assert content["services"]["tiny"]["command"] == ["/nothing", "$$HOME"]
    assert engine.containers(project) == []
    refusal = ""
    try:
        engine.up(project)
    except EngineError as error:
        refusal = str(error)
    # the engine's own last line
    assert not refusal or "ended with status" in refusal
    [container] = engine.containers(project)
    assert engine.restarts([container.name]) == {container.name: 0}
    assert (container.service, container.image) == ("tiny", _IMAGE)
    assert container.state in ("created", "running", "exited", "restarting")
    assert not refusal or not container.is_well
    engine.logs(project, lines=5)
    engine.down(project)
    assert engine.containers(project) == []


def test_a_wrong_file_is_refused_with_the_words_of_compose(
    engine: ComposeEngine, tmp_path: Path
) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text("services:\n  tiny:\n    imag: x\n")
    with pytest.raises(EngineError, match="imag"):
        engine.configuration(Project(tmp_path, (file,)))


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="docker cannot be run"):
        ComposeEngine("docker", log=lambda _: None).facts()


@pytest.mark.parametrize(
    ("version", "is_new_enough"),
    [
        ("5.6.1", True),
        ("v2.34.0-desktop.1", True),
        ("2.33.1", False),
        ("1.29.2", False),
        ("dev", 0),
    ],
)
def test_a_compose_that_cannot_read_the_files_is_refused_with_its_version(
    version: str, is_new_enough: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = RecordedEngine.make(tmp_path / "engine")
    recorded.change(compose=version)
    monkeypatch.setenv("PATH", str(recorded.bin))
    engine = ComposeEngine("docker", log=lambda _: None)
    if is_new_enough:
        assert engine.facts().compose_version == version.removeprefix("v")
        return
    with pytest.raises(
        EngineError, match=f"2.34 on is needed.*docker compose is version {version}"
    ):
        engine.facts()


@pytest.mark.parametrize("said", ["", "null", "[]", "3", '{"Name": "a"}', "warning: x"])
def test_an_answer_of_another_form_is_an_error_of_the_engine(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n[ \"$2\" = version ] && echo 5.6.1 && exit\nprintf '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    engine = ComposeEngine("docker", log=lambda _: None)
    with pytest.raises(EngineError, match="is not understood"):
        engine.image("a")
    with pytest.raises(EngineError, match="is not understood"):
        engine.restarts(["a", "b"])
    if said:
        with pytest.raises(EngineError, match="is not understood"):
            engine.containers(Project(tmp_path, ()))
    if not said.startswith("{"):
        with pytest.raises(EngineError, match="is not understood"):
            engine.facts()


def test_a_release_that_a_real_engine_cannot_start_leaves_nothing(
    podman: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "docker" if shutil.which("docker") else "podman"
    file = tmp_path / "docker-compose.yml"
    file.write_text(_COMPOSE.replace("contract", "refused"))
    clean = {name: value for name, value in podman.items() if not name.startswith("AURUM_")}
    order = ["deploy", "--engine", program, "--file", str(file), "--no-pull"]
    order += ["--url", "http://127.0.0.1:9", "--free-disk-gib", "0", "--free-memory-gib", "0"]
    failed = run_in_process(
        order, environment={**clean, "AURUM_HOME": str(tmp_path / "home")}, folder=tmp_path
    )
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "[6/8] start" in failed.stdout
    assert "up --detach" in failed.stderr
    assert "nothing runs" in failed.stderr

    for name, value in podman.items():
        monkeypatch.setenv(name, value)
    engine = ComposeEngine(program, log=lambda _: None)
    assert engine.containers(Project(tmp_path, (file,))) == []
    assert engine.image("localhost/refused-release/tiny:1") is None
    print((tmp_path / "home/deployments/1/deployment.log").read_text())

import subprocess

import pytest
from rich.console import Console

from benchmarks.peers.immich import Immich
from benchmarks.peers.install import install, reason_in
from benchmarks.peers.service import Networks, NotRunError


@pytest.fixture
def networks(tmp_path):
    return Networks(tmp_path / "a.onnx", tmp_path / "b.onnx")


@pytest.fixture
def peer(tmp_path):
    (tmp_path / "immich" / "machine-learning" / "immich_ml").mkdir(parents=True)
    return Immich(tmp_path / "immich", tmp_path / "cache")


@pytest.fixture
def commands(monkeypatch):
    """What would be run; each succeeds until `fails` is set."""
    seen = []

    def run(command, **_options):
        seen.append(command)
        return subprocess.CompletedProcess(command, returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return seen


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "Collecting a\nERROR: No match for a\nERROR: also\n\n[notice] pip",
            "ERROR: No match for a",
        ),
        ("  File x\nModuleNotFoundError: no y\nWorker failed", "ModuleNotFoundError: no y"),
        ("starting\nKilled\n\n", "Killed"),
        ("", "it said nothing"),
    ],
)
def test_the_reason_is_the_first_error_or_the_last_line(tmp_path, log, reason):
    file = tmp_path / "log"
    file.write_text(log)
    assert reason_in(file) == reason


def test_a_folder_without_the_peer_is_named(tmp_path, networks):
    peer = Immich(tmp_path, tmp_path / "cache")
    with pytest.raises(NotRunError, match=r"no checkout of .*immich.* in a folder immich/"):
        install(peer, networks, Console(quiet=True))


def test_an_environment_is_made_once(peer, networks, commands):
    install(peer, networks, Console(quiet=True))
    assert commands[0][1:3] == ["-m", "venv"]
    assert commands[1][-1].endswith("machine-learning[cpu]")
    install(peer, networks, Console(quiet=True))
    assert len(commands) == 2


def test_other_packages_make_it_anew(peer, networks, commands, monkeypatch):
    install(peer, networks, Console(quiet=True))
    monkeypatch.setattr(peer, "packages", lambda: [["another"]])
    install(peer, networks, Console(quiet=True))
    assert commands[-1][-1] == "another"


def test_a_failed_installation_is_tried_again(peer, networks, monkeypatch):
    def run(command, *, stdout, **_options):
        stdout.write(b"ERROR: no such package\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, returncode=1)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        with pytest.raises(NotRunError, match="do not install: ERROR: no such package"):
            install(peer, networks, Console(quiet=True))

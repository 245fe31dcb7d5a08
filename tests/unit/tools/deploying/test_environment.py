"""What a machine lacks for a project, and what the configuration says of the gateway."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tools.deploying.configuration import Configuration
from tools.deploying.engine import Facts
from tools.deploying.environment import (
    Needs,
    create_folders,
    disk_problems,
    gpu_problems,
    memory_problems,
    port_problems,
    secret_problems,
)

FACTS = Facts("28.2.2", "5.6.1", None, ("runc",))


def configuration(service: dict[str, Any], **more: Any) -> Configuration:
    return Configuration({"name": "p", "services": {"gateway": service}, **more})


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter; those of pytest are closed."""
    with TemporaryDirectory(prefix="aurum-open-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize(
    ("mode", "folder_mode", "wrong"),
    [
        (0o600, 0o755, False),
        (0o640, 0o755, False),
        (0o644, 0o755, True),
        (0o660, 0o755, True),
        (0o644, 0o700, False),
        (0o660, 0o700, False),
    ],
)
def test_a_secret_is_closed_by_its_mode_or_its_folder(
    open_folder: Path, mode: int, folder_mode: int, wrong: bool
) -> None:
    path = open_folder / "secret"
    path.write_text("x")
    path.chmod(mode)
    open_folder.chmod(folder_mode)
    used = {"secrets": [{"source": "a"}]}
    found = configuration(used, secrets={"a": {"file": str(path)}, "unused": {"file": "/none"}})
    assert len(list(secret_problems(found))) == wrong


def test_a_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    used = {"secrets": [{"source": "a"}]}
    declared = {"a": {"file": str(tmp_path / "none")}}
    [problem] = secret_problems(configuration(used, secrets=declared))
    assert problem.startswith("secret a: ")
    assert "No such file" in problem


def test_a_port_in_use_is_a_problem_unless_our_container_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        ports = [{"host_ip": "127.0.0.1", "published": str(number), "target": 8080}]
        found = configuration({"ports": ports})
        [problem] = port_problems(found, ())
        assert f"port {number} for the service gateway" in problem
        assert not list(port_problems(found, {number}))


def test_a_gpu_is_looked_for_only_where_a_service_reserves_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not list(gpu_problems(configuration({}), FACTS))
    devices = [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    wants = {"deploy": {"resources": {"reservations": {"devices": devices}}}}
    problems = list(gpu_problems(configuration(wants), FACTS))
    assert "gateway needs a GPU, and nvidia-smi lists none" in problems


def test_a_gpu_that_is_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    facts = Facts("28.2.2", "5.6.1", None, ("runc", "nvidia"))
    assert not list(gpu_problems(configuration({"gpus": "all"}), facts))


def test_too_little_room_is_said_with_figures(tmp_path: Path) -> None:
    much = Needs(disk_gib=1e9, memory_gib=1e9)
    [disk] = disk_problems(FACTS, tmp_path / "not" / "yet", much)
    [memory] = memory_problems(much)
    assert "1e+09 are needed" in disk
    assert "of memory are free" in memory
    nothing = Needs(0, 0)
    assert not [*disk_problems(FACTS, tmp_path, nothing), *memory_problems(nothing)]


def test_missing_folders_get_the_user_of_the_service(tmp_path: Path) -> None:
    mount = {"type": "bind", "source": str(tmp_path / "state"), "target": "/state"}
    read = {"type": "bind", "source": str(tmp_path / "r"), "target": "/r", "read_only": True}
    own = f"{os.geteuid()}:{os.getegid()}"
    found = configuration({"volumes": [mount, read]})
    [said] = create_folders(found, {"gateway": own}, dry_run=True)
    assert said == f"would create {tmp_path}/state for gateway, owned by {own}"
    assert not (tmp_path / "state").exists()
    [said] = create_folders(found, {"gateway": own}, dry_run=False)
    assert said == f"created {tmp_path}/state for gateway, owned by {own}"
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o750
    assert not (tmp_path / "r").exists()
    assert not list(create_folders(found, {}, dry_run=False))


def port(published: int, target: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"host_ip": host, "published": str(published), "target": target, "protocol": "tcp"}


@pytest.mark.parametrize(
    ("services", "url"),
    [
        ({"gateway": {"ports": [port(80, 8080)]}}, "http://127.0.0.1:80"),
        ({"gateway": {"ports": [port(80, 8080, "::1")]}}, "http://[::1]:80"),
        (
            {
                "gateway": {
                    "ports": [port(8080, 8080)],
                    "environment": {"AURUM_TLS_CERTIFICATE_FILE": "/c.pem"},
                }
            },
            "https://127.0.0.1:8080",
        ),
        (
            {"gateway": {}, "nginx": {"ports": [port(80, 80, ""), port(443, 8443, "")]}},
            "https://127.0.0.1:443",
        ),
        ({"gateway": {}}, None),
    ],
)
def test_the_gateway_is_asked_where_the_configuration_publishes_it(
    services: dict[str, Any], url: str | None
) -> None:
    assert Configuration({"name": "p", "services": services}).url() == url

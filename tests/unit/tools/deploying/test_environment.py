"""What a machine lacks for a project, and what the configuration says of the gateway."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tools.deploying.configuration import Configuration
from tools.deploying.engine import Facts, Project
from tools.deploying.environment import (
    Needs,
    create_folders,
    describe_memory,
    disk_problems,
    gpu_problems,
    memory_problems,
    port_problems,
    secret_problems,
    settings_problems,
    triton_problems,
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
    problems = list(secret_problems(found))
    assert len(problems) == wrong
    # a file that others cannot read would keep its container out, too
    assert not wrong or problems[0].endswith(f"chmod 0700 {open_folder}")


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


def test_a_port_that_only_root_may_use_is_left_to_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = configuration({"ports": [{"published": "443", "target": 8443}]})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    listening: list[Any] = []
    monkeypatch.setattr(psutil, "net_connections", lambda _: listening)
    assert list(port_problems(found, ())) == []
    address = SimpleNamespace(ip="0.0.0.0", port=443)
    listening.append(SimpleNamespace(status=psutil.CONN_LISTEN, laddr=address))
    assert list(port_problems(found, ())) == ["port 443 for the service gateway is in use"]
    assert list(port_problems(found, {443})) == []


def asking(url: str, **more: Any) -> dict[str, Any]:
    return {"environment": {"AURUM_TRITON_GRPC_URL": url}, **more}


def test_a_triton_that_no_profile_chose_is_missed() -> None:
    [problem] = triton_problems(configuration(asking("triton:8001")))
    assert problem.startswith("gateway asks triton for inference")
    assert "COMPOSE_PROFILES" in problem
    with_one = {"networks": {"app": {"aliases": ["triton"]}}}
    services = {"gateway": asking("triton:8001"), "triton-cpu": with_one, "other": {}}
    for stack in (
        Configuration({"name": "p", "services": services}),
        configuration(asking("triton.example.com:8001")),
        configuration(asking("ipv4:10.0.0.1:8001,10.0.0.2:8001")),
        configuration(asking("localhost:8001", network_mode="host")),
        configuration(asking("triton:8001", extra_hosts=["triton=10.0.0.1"])),
        configuration(asking("triton:8001"), networks={"others": {"external": True}}),
    ):
        assert list(triton_problems(stack)) == []


def test_settings_are_read_with_the_secrets_that_the_container_sees(tmp_path: Path) -> None:
    secret = tmp_path / "made" / "by-hand"
    secret.parent.mkdir()
    secret.write_text("0123456789abcdef0123456789abcdef")
    service = {
        "environment": {"AURUM_SECRETS_FOLDER": "/run/secrets"},
        "secrets": [{"source": "own", "target": "/run/secrets/AURUM_WEBHOOK_SECRET"}],
    }
    found = configuration(service, secrets={"own": {"file": str(secret)}})
    project = Project(tmp_path, ())
    assert list(settings_problems(found, project)) == []
    secret.write_text("short")
    [problem] = settings_problems(found, project)
    assert problem.startswith("settings of gateway: ")
    assert "WEBHOOK_SECRET" in problem
    assert "short" not in problem


def test_memory_that_all_containers_may_take_is_compared_with_what_is_free() -> None:
    def limit(gib: int, **more: Any) -> dict[str, Any]:
        return {"deploy": {"resources": {"limits": {"memory": str(gib << 30)}}, **more}}

    assert describe_memory(configuration({})) == ""
    assert describe_memory(configuration({"mem_limit": 1})) == ""
    much = describe_memory(configuration(limit(100_000, replicas=3)))
    assert much.startswith("containers may take 300000.0 GiB of memory")


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

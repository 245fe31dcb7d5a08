"""The images that `deploy/docker/build.sh` builds: built, started, asked about a photo."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from gateway.settings import CHECKOUT
from tests.support.container_images import SHARED_MEMORY_BYTES, Images, build, in_memory
from tests.support.serving import free_ports, wait_until
from tools.serving.compiled_backend import LIBRARY
from triton_python_backend.self_test import PORTRAIT

USER = 10001
GENERATED = {"aurum.egg-info", "sbom.json"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    with in_memory(tmp_path_factory.mktemp("images")) as folder:
        made = build(folder)
        yield made
        made.buildah("rm", "--all")
        made.buildah("rmi", "--all", "--force")


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", ["gateway", "cpu"])
def test_an_image_says_what_it_is_and_runs_as_nobody_special(images: Images, name: str) -> None:
    found = images.configuration(name)
    assert found["User"] == f"{USER}:{USER}"
    assert found["Healthcheck"]["Test"] == ["CMD", "python", "-m", "gateway.health_check"]
    assert list(found["Volumes"]) == ["/var/lib/aurum"]
    labels = found["Labels"]
    assert labels["org.opencontainers.image.title"] == f"aurum-{name}"
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])


def test_an_image_lists_what_it_holds(images: Images) -> None:
    pinned = re.findall(
        r"^([\w.-]+)==(\S+)", (CHECKOUT / "requirements/run.txt").read_text(), re.MULTILINE
    )
    with images.container("cpu") as (_, root):
        listed = json.loads((root / "opt/aurum/sbom.json").read_text())["components"]
    held: dict[str, dict[str, str]] = {}
    for each in listed:
        kind = each["purl"].partition("/")[0]
        held.setdefault(kind, {})[each["name"]] = each["version"]
    python = held["pkg:pypi"]
    assert set(python) - {re.sub("[-_.]+", "-", name).lower() for name, _ in pinned} == {
        *("aurum", "nvidia-pytriton")
    }
    assert {version for _, version in pinned} <= set(python.values())
    assert {"libc6", "libpython3.11", "redis-server", "tini"} <= set(held["pkg:deb"])
    assert "g++" not in held["pkg:deb"]


def test_an_image_holds_nothing_else_of_the_checkout(images: Images) -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    known = subprocess.run(listed, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    with images.container("cpu") as (_, root):
        aurum = root / "opt/aurum"
        held = {path.relative_to(aurum) for path in aurum.rglob("*") if path.is_file()}
        assert not list((root / "opt/venv").rglob("pip/__init__.py"))
    code = {path for path in held if path.parts[0] not in GENERATED}
    assert {str(path) for path in code} - set(known.stdout.splitlines()) == set()
    assert {path.parts[0] for path in code} == {
        *("LICENSE", "README.md", "THIRD_PARTY.md", "pyproject.toml", "requirements"),
        *("clients", "gateway", "model_repository", "tools", "triton_python_backend"),
    }


def test_the_images_answer_a_photo_with_a_read_only_root_and_no_capabilities(
    images: Images, tmp_path: Path
) -> None:
    http, grpc, metrics, cpu_port, gateway_port = free_ports(5)
    ports = {
        "AURUM_TRITON_HTTP_PORT": http,
        "AURUM_TRITON_GRPC_PORT": grpc,
        "AURUM_TRITON_METRICS_PORT": metrics,
        "AURUM_PORT": cpu_port,
    }
    with (
        (tmp_path / "cpu.log").open("wb") as cpu_log,
        (tmp_path / "gateway.log").open("wb") as gateway_log,
        images.container("cpu") as (cpu, _),
        images.container("gateway") as (gateway, _),
        images.running("cpu", cpu, cpu_log, ports) as running,
    ):
        faces = answered(cpu_port, tmp_path / "cpu.log")
        processes = confined(running)
        assert {"tini", "python", "redis-server", "tritonserver"} <= set(processes)
        inside = Path(f"/proc/{processes['tini']}/root")
        shared_memory = os.statvfs(inside / "dev/shm")
        assert shared_memory.f_blocks * shared_memory.f_frsize == SHARED_MEMORY_BYTES
        # Triton's own table of its backends: the compiled one, not a process for each network
        backends = (inside / "var/lib/aurum/logs/triton.log").read_text()
        assert re.search(rf"^\| onnxruntime +\| \S+/{LIBRARY} +\|", backends, re.MULTILINE)
        images.buildah(
            *("run", f"--env=AURUM_PORT={cpu_port}", cpu, "--"),
            *("python", "-m", "gateway.health_check"),
        )
        triton = {
            "AURUM_TRITON_GRPC_URL": f"127.0.0.1:{grpc}",
            "AURUM_TRITON_HTTP_URL": f"http://127.0.0.1:{http}",
            "AURUM_MODEL_REPOSITORY": "/models",
            "AURUM_PORT": gateway_port,
        }
        models = f"--volume={CHECKOUT / 'model_repository'}:/models:ro"
        with images.running("gateway", gateway, gateway_log, triton, models) as running:
            assert answered(gateway_port, tmp_path / "gateway.log") == faces
            assert {"tini", "python"} <= set(confined(running))


def answered(port: int, log: Path) -> list[dict[str, object]]:
    """Wait until a container is ready; return the faces that it sees in the portrait."""
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return requests.get(f"{url}/api/health/ready", timeout=10).status_code == 200
        except requests.ConnectionError:
            return False

    assert wait_until(is_ready, timeout_seconds=240), log.read_text()[-3000:]
    answer = requests.post(
        f"{url}/api/ml/score", files={"image": PORTRAIT.read_bytes()}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    faces: list[dict[str, object]] = answer.json()["faces"]
    assert faces
    assert all("score" in face for face in faces)
    return faces


def confined(running: subprocess.Popen[bytes]) -> dict[str, int]:
    """Processes in a container by name; each has what an engine leaves it, and no more."""
    processes = {}
    for process in psutil.Process(running.pid).children(recursive=True):
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = dict(re.findall(r"^(\w+):\t(.+)$", status, re.MULTILINE))
        if found["Uid"].split()[0] == "0":
            # buildah's own
            continue
        mounts = Path(f"/proc/{process.pid}/mountinfo").read_text()
        processes[process.name()] = process.pid
        assert {found["CapEff"], found["CapPrm"], found["CapBnd"]} == {16 * "0"}
        assert found["NoNewPrivs"] == "1"
        assert set(found["Uid"].split()) == set(found["Gid"].split()) == {str(USER)}
        assert found.get("Groups", "").strip() == ""
        assert re.search(r" / / ro\b", mounts), mounts
    return processes

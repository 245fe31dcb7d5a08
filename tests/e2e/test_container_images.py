"""The images that `deploy/docker/build.sh` builds: built, started, asked about a photo."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from gateway.settings import CHECKOUT
from tests.support.container_images import Images, build, in_memory
from tests.support.serving import free_ports, wait_until
from triton_python_backend.self_test import PORTRAIT

USER = 10001


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
        listed = json.loads((root / "opt/aurum/sbom.json").read_text())
        assert not list((root / "opt/venv").rglob("pip/__init__.py"))
    held = {(_name(each["name"]), each["version"]) for each in listed["components"]}
    assert (listed["bomFormat"], len(held) > 60) == ("CycloneDX", True)
    assert {(_name(name), version) for name, version in pinned} <= held


def _name(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def test_the_images_answer_a_photo(images: Images, tmp_path: Path) -> None:
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
        images.container("cpu") as (cpu, root),
        images.container("gateway") as (gateway, _),
        images.running("cpu", cpu, cpu_log, ports),
    ):
        faces = answered(cpu_port, tmp_path / "cpu.log")
        # on a read-only root, these two are to be mounted
        homes = (Path("var/lib/aurum"), Path("tmp"))
        assert [
            path for path in written_by(USER, root) if not any(map(path.is_relative_to, homes))
        ] == []
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
        with images.running("gateway", gateway, gateway_log, triton, models):
            assert answered(gateway_port, tmp_path / "gateway.log") == faces


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


def written_by(user: int, root: Path) -> list[Path]:
    """What a user wrote below a container's root."""
    found = subprocess.run(
        ["find", ".", "-xdev", "-uid", str(user)], cwd=root, capture_output=True, check=True
    )
    return [Path(os.fsdecode(name)) for name in found.stdout.splitlines()]

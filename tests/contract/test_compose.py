"""`docker-compose.yml` and its Dockerfiles fit the code: variables, ports, paths, commands."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.api.table import ROUTES
from gateway.settings import CHECKOUT, PREFIX, Settings, load_settings
from tests.support.serving import shared_installation
from tools.serving.home import Home
from tools.serving.triton_part import TritonPart
from triton_python_backend.contract import PIPELINE

COMPOSE = CHECKOUT / "docker-compose.yml"
TEXT = COMPOSE.read_text()
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
DOCKERFILES = sorted((CHECKOUT / "deploy" / "docker").glob("*.Dockerfile"))
_DEFAULT = re.compile(r"\$\{(AURUM_\w+):-([^}]*)\}")
CONTAINER_PYTHON = (3, 10)
"""Python version of NVIDIA's 24.10 image."""


def flags_of_triton() -> dict[str, str]:
    program, *flags = SERVICES["triton"]["command"]
    assert program == "tritonserver"
    return dict(flag.partition("=")[::2] for flag in flags)


def container_port(service: str, number: int) -> tuple[str, str]:
    """Return the variable of a published port and the port inside."""
    mapping = SERVICES[service]["ports"][number]
    match = re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:(\d+)", mapping)
    assert match, f"{mapping} is not bound to this machine"
    assert match[2] == match[3], "the default differs from the port inside"
    return match[1], match[3]


def mount_of_the_repository(service: str) -> str:
    [mount] = [entry for entry in SERVICES[service]["volumes"] if "model_repository" in entry]
    match = re.fullmatch(r"\$\{AURUM_MODEL_REPOSITORY:-\./model_repository\}:(/\w+):ro", mount)
    assert match, f"{mount} is not a read-only mount of the repository"
    return match[1]


def test_compose_accepts_the_file() -> None:
    command = [str(Path(sys.executable).parent / "docker-compose")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    result = subprocess.run(
        [*command, "--file", str(COMPOSE), "config"],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "variable is not set" not in result.stderr
    resolved = yaml.safe_load(result.stdout)
    assert set(resolved["services"]) == {"gateway", "triton", "redis", "qdrant", "worker"}


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"\bAURUM_\w+", TEXT)) - {"AURUM_MODEL_MIRROR"}
    assert named
    assert named <= known


def test_defaults_equal_those_of_the_settings() -> None:
    fallbacks = dict(_DEFAULT.findall(TEXT))
    assert {"AURUM_PORT", "AURUM_MAX_IMAGE_BYTES", "AURUM_TRITON_GRPC_PORT"} <= set(fallbacks)
    fallbacks.pop("AURUM_MODEL_REPOSITORY")
    defaults = {name: str(field.default) for name, field in Settings.model_fields.items()}
    for variable, value in fallbacks.items():
        assert value == defaults[variable.removeprefix(PREFIX).lower()], variable


def test_gateway_starts_with_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in SERVICES["gateway"]["environment"].items():
        monkeypatch.setenv(name, _DEFAULT.sub(lambda match: match[2], str(value)))

    settings = load_settings()

    assert container_port("gateway", 0) == ("AURUM_PORT", str(settings.port))
    assert settings.host == "0.0.0.0"
    assert settings.triton_grpc_url == f"triton:{flags_of_triton()['--grpc-port']}"
    assert settings.triton_http_address == f"http://triton:{flags_of_triton()['--http-port']}"
    assert str(settings.model_repository) == mount_of_the_repository("gateway")
    assert f"aurum-home:{settings.home}" in SERVICES["gateway"]["volumes"]
    pixels = SERVICES["triton"]["environment"]["OPENCV_IO_MAX_IMAGE_PIXELS"]
    assert float(pixels) == settings.max_image_megapixels * 1e6


def test_triton_ports_match_the_settings() -> None:
    flags = flags_of_triton()
    for number, kind in enumerate(("http", "grpc", "metrics")):
        variable, inside = container_port("triton", number)
        assert variable == f"AURUM_TRITON_{kind.upper()}_PORT"
        assert inside == flags[f"--{kind}-port"]


def test_triton_has_the_flags_that_the_supervisor_sets(tmp_path: Path) -> None:
    installation = shared_installation()
    part = TritonPart(Settings(home=tmp_path), Home(tmp_path), installation)
    ours = dict(flag.partition("=")[::2] for flag in part.command()[1:])
    flags = flags_of_triton()
    assert flags.pop("--model-repository") == mount_of_the_repository("triton")
    for flag in set(flags):
        assert flags[flag] == ours[flag], flag
    # the other flags depend on the machine: addresses, folders, shared memory, no GPU
    assert {flag.split("-")[2] for flag in set(ours) - set(flags)} <= {
        *("model", "backend", "cache", "http", "grpc", "metrics", "allow")
    }


def test_health_checks_request_existing_routes() -> None:
    triton = SERVICES["triton"]["healthcheck"]["test"][-1]
    port = flags_of_triton()["--http-port"]
    assert triton == f"http://127.0.0.1:{port}/v2/models/{PIPELINE.name}/ready"
    gateway = SERVICES["gateway"]["healthcheck"]["test"][-1]
    path = re.search(r"127\.0\.0\.1:8080(/[\w/]+)", gateway)
    assert path
    assert path[1] in {route.path for route in ROUTES}
    assert all("healthcheck" in service for service in SERVICES.values())


def test_images_are_pinned_and_do_not_run_as_root() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    for service in SERVICES.values():
        if "build" in service:
            dockerfile = CHECKOUT / service["build"]["dockerfile"]
            assert dockerfile in DOCKERFILES
            text = dockerfile.read_text()
            images += re.findall(r"^FROM (\S+)", text, re.MULTILINE)
            [user] = re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)
            assert int(user) > 0
    assert len(images) == len(SERVICES)
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), f"{image} is not pinned"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfiles_copy_existing_files_of_the_build_context(dockerfile: Path) -> None:
    sent = {
        line[1:]
        for line in (CHECKOUT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for line in re.findall(r"^COPY (.+)$", dockerfile.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (CHECKOUT / source).exists(), source
            assert source in sent, f"{source} is excluded by .dockerignore"


def test_triton_image_has_the_versions_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    text = (CHECKOUT / "deploy" / "docker" / "triton.Dockerfile").read_text()
    pins = re.findall(r"[\w-]+==[\w.]+", text)
    assert len(pins) == 3
    extras = project["optional-dependencies"].values()
    assert set(pins) <= {*project["dependencies"], *chain(*extras)}


def test_stages_run_on_the_python_of_the_container() -> None:
    sources = [
        *CHECKOUT.glob("triton_python_backend/**/*.py"),
        *CHECKOUT.glob("model_repository/*/1/model.py"),
    ]
    assert len(sources) > 8
    newer = {"tomllib", "ExceptionGroup", "StrEnum", "Self", "assert_never"}
    for source in sources:
        tree = ast.parse(source.read_text(), feature_version=CONTAINER_PYTHON)
        names = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not names & newer, source


def test_workers_share_what_the_gateway_uses() -> None:
    gateway, worker = SERVICES["gateway"], SERVICES["worker"]
    # records, images of jobs and their key lie in the home
    assert worker["environment"] == gateway["environment"]
    assert worker["volumes"] == gateway["volumes"]
    assert worker["build"] == gateway["build"]
    python, option, module = worker["command"]
    assert (python, option) == ("python", "-m")
    assert (CHECKOUT / module.replace(".", "/") / "__main__.py").is_file()
    # more of them can be started: no port is published
    assert "ports" not in worker

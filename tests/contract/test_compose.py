"""The development stack in `docker-compose.yml` and the Dockerfiles fit the code."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import CHECKOUT, PREFIX, Settings, load_settings
from tests.support.compose import DEVELOPMENT, PROFILES, resolved
from tests.support.serving import shared_installation
from tools.serving.home import Home
from tools.serving.triton_part import TritonPart
from triton_python_backend import liveness
from triton_python_backend.contract import PIPELINE

SERVICES: dict[str, Any] = resolved(DEVELOPMENT, *PROFILES)["services"]
DOCKERFILES = sorted((CHECKOUT / "deploy" / "docker").glob("*.Dockerfile"))
BUILD = (CHECKOUT / "deploy" / "docker" / "build.sh").read_text()
CONTAINER_PYTHON = (3, 10)
"""Python version of NVIDIA's 24.10 image."""


def flags_of_triton() -> dict[str, str]:
    program, *flags = SERVICES["triton-gpu"]["command"]
    assert program == "tritonserver"
    return dict(flag.partition("=")[::2] for flag in flags)


def mount_of_the_repository(service: str) -> str:
    [mount] = [
        each
        for each in SERVICES[service]["volumes"]
        if each.get("source") == str(CHECKOUT / "model_repository")
    ]
    assert mount["read_only"]
    return str(mount["target"])


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_has_one_triton_under_the_same_name(profile):
    services = resolved(DEVELOPMENT, profile)["services"]
    tritons = [name for name in services if name.startswith("triton")]
    assert tritons == [f"triton-{profile}"]
    assert services[tritons[0]]["networks"]["default"]["aliases"] == ["triton"]
    others = {"gateway", "worker", "nginx", "redis", "qdrant", "postgres"}
    assert set(services) == {*others, *tritons}


def test_nothing_is_published_beyond_this_machine():
    for service in SERVICES.values():
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ()))


@pytest.mark.parametrize("service", ["gateway", "worker"])
def test_gateway_and_worker_start_with_their_environment(service, monkeypatch):
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in SERVICES[service]["environment"].items():
        monkeypatch.setenv(name, str(value))

    settings = load_settings()

    assert settings.host == "0.0.0.0"
    assert settings.triton_grpc_url == f"triton:{flags_of_triton()['--grpc-port']}"
    assert str(settings.model_repository) == mount_of_the_repository(service)
    assert str(settings.home) in [each["target"] for each in SERVICES[service]["volumes"]]
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == (
        "postgresql://{POSTGRES_USER}:{POSTGRES_PASSWORD}@postgres/{POSTGRES_DB}".format(
            **SERVICES["postgres"]["environment"]
        )
    )


def test_ports_of_the_gateway_are_its_settings():
    [port] = SERVICES["gateway"]["ports"]
    environment = SERVICES["gateway"]["environment"]
    assert str(port["target"]) == environment["AURUM_PORT"]
    assert port["published"] == str(Settings.model_fields["port"].default)


def test_triton_listens_where_the_settings_say_by_default():
    flags = flags_of_triton()
    for kind in ("http", "grpc", "metrics"):
        field = Settings.model_fields[f"triton_{kind}_port"]
        assert flags[f"--{kind}-port"] == str(field.default)


def test_triton_for_processors_is_reached_by_grpc_and_metrics_only(tmp_path, monkeypatch):
    service = SERVICES["triton-cpu"]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, str(value))
    settings = load_settings({name: str(value) for name, value in service["environment"].items()})
    part = TritonPart(settings, Home(tmp_path), shared_installation())
    flags = dict(flag.partition("=")[::2] for flag in part.command()[1:])
    assert flags["--grpc-address"] == flags["--metrics-address"] == "0.0.0.0"
    assert flags["--http-address"] == "127.0.0.1"
    # what the check asks within the container
    address = f"http://127.0.0.1:{flags['--http-port']}"
    assert f"'{address}/v2/models/{PIPELINE.name}/ready'" in service["healthcheck"]["test"][-1]
    pixels = SERVICES["triton-gpu"]["environment"]["OPENCV_IO_MAX_IMAGE_PIXELS"]
    assert float(pixels) == settings.max_image_megapixels * 1e6


def test_triton_has_the_flags_that_the_supervisor_sets(tmp_path: Path) -> None:
    installation = shared_installation()
    part = TritonPart(Settings(home=tmp_path), Home(tmp_path), installation)
    ours = dict(flag.partition("=")[::2] for flag in part.command()[1:])
    flags = flags_of_triton()
    assert flags.pop("--model-repository") == mount_of_the_repository("triton-gpu")
    for flag in set(flags):
        assert flags[flag] == ours[flag], flag
    # the other flags depend on the machine: addresses, folders, shared memory, no GPU
    assert {flag.split("-")[2] for flag in set(ours) - set(flags)} <= {
        *("model", "backend", "cache", "http", "grpc", "metrics", "allow")
    }


def test_the_gpu_is_reserved_for_nvidias_image():
    [device] = SERVICES["triton-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    check = SERVICES["triton-gpu"]["healthcheck"]["test"]
    port = flags_of_triton()["--http-port"]
    url = f"http://127.0.0.1:{port}/v2/models/{PIPELINE.name}/ready"
    assert check == ["CMD", "python3", "-m", liveness.__name__, url, "--end"]
    assert SERVICES["triton-gpu"]["restart"] == "unless-stopped"


def test_our_images_do_not_run_as_root():
    built = {service["build"]["dockerfile"] for service in SERVICES.values() if "build" in service}
    assert built == {str(each.relative_to(CHECKOUT)) for each in DOCKERFILES}
    for dockerfile in DOCKERFILES:
        users = re.findall(r"^USER (\d+):\d+$", dockerfile.read_text(), re.MULTILINE)
        assert int(users[-1]) > 0, dockerfile


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_has_a_base_to_pin_labels_a_health_check_and_a_bill_of_materials(
    dockerfile: Path,
) -> None:
    text = dockerfile.read_text()
    instructions = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    stages = [given.split(" AS ") for name, given in instructions if name == "FROM"]
    bases = {base for base, *_ in stages} - {name for _, *names in stages for name in names}
    [argument] = {each.strip("${}") for each in bases}
    assert instructions[0][0] == "ARG"
    assert instructions[0][1].startswith(f"{argument}=")
    assert f'--build-arg {argument}="' in BUILD
    assert f'image.title="aurum-{dockerfile.stem}"' in text
    assert f"sbom.py aurum-{dockerfile.stem} " in text
    [check] = [given for name, given in instructions if name == "HEALTHCHECK"]
    [service] = {
        name
        for name, each in SERVICES.items()
        if each.get("build", {}).get("dockerfile") == str(dockerfile.relative_to(CHECKOUT))
        if name != "worker"
    }
    if service != "triton-cpu":  # there without a gateway
        assert (
            json.loads(check.partition("CMD ")[2]) == SERVICES[service]["healthcheck"]["test"][1:]
        )


def test_variables_of_the_build_are_explained() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+):", BUILD))
    assert used == set(re.findall(r"^#   ([A-Z_]+) ", BUILD, re.MULTILINE))


def test_hadolint_accepts_the_dockerfiles():
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [program, "--failure-threshold", "warning", *DOCKERFILES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfiles_copy_existing_files_of_the_build_context(dockerfile: Path) -> None:
    sent = {
        line[1:]
        for line in (CHECKOUT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (CHECKOUT / source).exists(), source
            parts = Path(source).parts
            assert any("/".join(parts[: end + 1]) in sent for end in range(len(parts))), (
                f"{source} is excluded by .dockerignore"
            )


def test_triton_image_has_the_versions_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    text = (CHECKOUT / "requirements" / "triton.txt").read_text()
    pins = re.findall(r"[\w-]+==[\w.]+", text)
    assert len(pins) == 3
    extras = project["optional-dependencies"].values()
    assert set(pins) <= {*project["dependencies"], *chain(*extras)}


def test_stages_run_on_the_python_of_the_container() -> None:
    sources = [
        *CHECKOUT.glob("triton_python_backend/**/*.py"),
        *CHECKOUT.glob("model_repository/*/1/model.py"),
        CHECKOUT / "tools" / "sbom.py",
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

"""The Helm chart, rendered by the real helm: Kubernetes accepts it, and it fits the code."""

import functools
import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from gateway.api.browsers import Browsers
from gateway.api.table import ROUTES
from gateway.security.exposure import check_exposure
from gateway.settings import CHECKOUT, PREFIX, Settings, load_settings
from tests.support.chart_cases import OUTSIDE
from tests.support.helm import CHART, Pod, Release
from tests.support.kubernetes_schemas import VERSIONS, faults
from tests.support.serving import shared_installation
from triton_python_backend.contract import PIPELINE

GRACE_SECONDS = 2.0
"""What the gateway adds to the deadline of requests when it stops."""


def settings_of(
    release: Release, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, dict[str, str]]:
    """Load the settings as the process in a container does; return them, and what is set."""
    environment = release.environment(pod.container)
    secrets = release.secret_files(pod, OUTSIDE)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with TemporaryDirectory() as folder:
        for name, value in secrets.items():
            (Path(folder) / name).write_text(f"{value}\n")
        monkeypatch.setenv(f"{PREFIX}SECRETS_FOLDER", folder)
        return load_settings(), {**environment, **secrets}


def of_aurum(release: Release) -> list[Pod]:
    return [pod for pod in release.pods if pod.component in ("gateway", "worker", "tools")]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_manifest(release: Release, version: str) -> None:
    assert faults(release.manifests, version) == []
    names = [(each["kind"], each["metadata"]["name"]) for each in release.manifests]
    assert len(names) == len(set(names)) > 25


def test_every_variable_is_a_setting_and_every_value_is_understood(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {each["metadata"]["name"]: each for each in release.kind("Service")}
    for pod in of_aurum(release):
        settings, environment = settings_of(release, pod, monkeypatch)
        mounted = {mount["mountPath"]: mount for mount in pod.container["volumeMounts"]}
        assert mounted[environment[f"{PREFIX}SECRETS_FOLDER"]]["name"] == "secrets"
        assert not mounted[str(settings.home)].get("readOnly")
        assert mounted[str(settings.model_repository)]["readOnly"] is (pod.component != "tools")
        for name in environment:
            field = name.removeprefix(PREFIX).lower()
            if field.endswith("_file"):
                assert str(getattr(settings, field).parent) in mounted, name
        assert settings.object_store_url or mounted[str(settings.home)]["name"] == "home"
        host, _, port = settings.triton_address.partition(":")
        numbers = [entry["port"] for entry in services[host]["spec"]["ports"]]
        assert int(port) in numbers
        assert settings.triton_http_address == f"http://{host}:8000"
        for url in (environment[f"{PREFIX}DATABASE_URL"], settings.qdrant_url or ""):
            inside = re.search(r"[/@](aurum-\w+):(\d+)", url)
            if inside:
                numbers = [entry["port"] for entry in services[inside[1]]["spec"]["ports"]]
                assert int(inside[2]) in numbers, url


def test_the_gateway_listens_where_its_ports_are(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = release.pod("gateway")
    settings, _ = settings_of(release, pod, monkeypatch)
    assert pod.ports == {"http": settings.port, "grpc": settings.grpc_port}
    assert settings.host == "0.0.0.0"
    assert settings.authentication == "on"
    check_exposure(settings)
    scheme = "HTTP" if settings.tls_certificate_file is None else "HTTPS"
    hosts = Browsers.from_settings(settings).hosts
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = pod.container[probe]["httpGet"]
        assert asked["scheme"] == scheme
        # the kubelet would name the pod's address, which AURUM_ALLOWED_HOSTS need not have
        [header] = asked["httpHeaders"]
        assert header["name"] == "Host"
        assert hosts.allow(header["value"])


def test_workers_have_names_of_their_own(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = release.pod("worker")
    settings, _ = settings_of(release, pod, monkeypatch)
    assert settings.worker_name == "aurum-worker-7c9f8d5b6-x2x9z"
    python, option, module = pod.container["args"]
    assert (python, option) == ("python", "-m")
    assert (CHECKOUT / module.replace(".", "/") / "__main__.py").is_file()


def test_large_numbers_among_the_settings_stay_numbers(
    releases: dict[str, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    # helm reads numbers as floats, and would write this one as 2e+07
    settings, _ = settings_of(releases["rest"], releases["rest"].pod("gateway"), monkeypatch)
    assert settings.max_image_bytes == 20_000_000
    assert settings.max_image_megapixels == 60.5


def test_services_of_the_cluster_become_no_variables(release: Release) -> None:
    # a service aurum-gateway would be AURUM_GATEWAY_SERVICE_HOST, which is no setting
    assert all(pod.spec["enableServiceLinks"] is False for pod in release.pods)


def test_probes_ask_paths_that_exist(release: Release) -> None:
    gateway = {route.path for route in ROUTES if route.method == "GET"}
    known = {
        "gateway": gateway,
        "triton": {f"/v2/models/{PIPELINE.name}/ready", "/v2/health/live"},
        "qdrant": {"/readyz", "/livez"},
    }
    kinds = ("startupProbe", "readinessProbe", "livenessProbe")
    for pod in release.pods:
        found = {kind: pod.container[kind] for kind in kinds if kind in pod.container}
        if pod.component in ("worker", "tools"):
            # they listen on nothing
            assert not found
            continue
        assert set(found) == set(kinds), pod.name
        for probe in found.values():
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in known[pod.component.partition("-")[0]]
                assert probe["httpGet"]["port"] in pod.ports
            if "tcpSocket" in probe:
                assert probe["tcpSocket"]["port"] in pod.ports


def test_a_rollout_waits_for_warm_models_and_drops_no_request(
    release: Release, chart_case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = release.pod("gateway")
    settings, _ = settings_of(release, pod, monkeypatch)
    readiness = pod.container["readinessProbe"]["periodSeconds"]
    assert settings.drain_seconds >= 2 * readiness
    needed = settings.drain_seconds + settings.request_timeout_seconds + GRACE_SECONDS
    assert pod.spec["terminationGracePeriodSeconds"] > needed
    startup = pod.container["startupProbe"]
    assert (
        startup["periodSeconds"] * startup["failureThreshold"]
        > settings.stores_start_timeout_seconds
    )
    for triton in (pod for pod in release.pods if pod.component.startswith("triton")):
        flags = flags_of(triton)
        pause = triton.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = triton.spec["terminationGracePeriodSeconds"]
        assert grace > pause + int(flags["--exit-timeout-secs"])
        startup = triton.container["startupProbe"]
        assert startup["httpGet"]["path"] == f"/v2/models/{PIPELINE.name}/ready"
        seconds = startup["periodSeconds"] * startup["failureThreshold"]
        assert seconds >= settings.triton_start_timeout_seconds
        assert triton.owner["spec"]["progressDeadlineSeconds"] > seconds
    for each in release.kind("Deployment"):
        strategy = each["spec"]["strategy"]
        if each["metadata"]["name"] == "aurum-tools":
            continue
        no_room = chart_case == "small" and "triton" in each["metadata"]["name"]
        assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": int(no_room)}


def flags_of(pod: Pod) -> dict[str, str]:
    program, *flags = pod.container["args"]
    assert program == "tritonserver"
    return dict(flag.partition("=")[::2] for flag in flags)


@functools.cache
def flags_that_triton_knows() -> set[str]:
    result = subprocess.run(
        [str(shared_installation().binary), "--help"], capture_output=True, text=True, check=False
    )
    return set(re.findall(r"--[a-z-]+", result.stdout + result.stderr))


def test_triton_has_flags_that_it_knows_and_ports_that_fit(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = settings_of(release, release.pod("gateway"), monkeypatch)
    known = flags_that_triton_knows()
    compose = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    commands = [each["command"] for each in compose.values() if "command" in each]
    [there] = [each[1:] for each in commands if each[0] == "tritonserver"]
    for pod in (pod for pod in release.pods if pod.component.startswith("triton")):
        flags = flags_of(pod)
        for flag in flags:
            assert flag in known, flag
        assert set(there) <= set(pod.container["args"])
        assert pod.ports == {
            kind: int(flags[f"--{kind}-port"]) for kind in ("http", "grpc", "metrics")
        }
        [pixels] = [
            entry["value"]
            for entry in pod.container["env"]
            if entry["name"] == "OPENCV_IO_MAX_IMAGE_PIXELS"
        ]
        assert float(pixels) == settings.max_image_megapixels * 1e6
        mounts = {mount["mountPath"]: mount for mount in pod.container["volumeMounts"]}
        assert mounts[flags["--model-repository"]]["readOnly"] is True
        assert "/dev/shm" in mounts


def test_a_pool_with_gpus_asks_for_them(releases: dict[str, Release]) -> None:
    gpu, cpu = (releases["large"].pod(f"triton-{pool}") for pool in ("gpu", "cpu"))
    assert gpu.container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 1}
    assert "nvidia.com/gpu" not in cpu.container["resources"]["limits"]
    assert gpu.spec["nodeSelector"]
    assert gpu.spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert flags_of(gpu)["--model-config-name"] == "cuda"
    assert "--model-config-name" not in flags_of(cpu)
    [mount] = [m for m in gpu.container["volumeMounts"] if m["name"] == "engines"]
    assert mount["mountPath"] in (CHECKOUT / "docs" / "quantization.md").read_text()


def test_init_containers_fill_an_empty_repository(
    releases: dict[str, Release], tmp_path: Path
) -> None:
    """The script as it is, with folders of the test."""
    [init] = releases["large"].pod("triton-gpu").spec["initContainers"]
    models, scratch = tmp_path / "models", tmp_path / "scratch"
    models.mkdir()
    scratch.mkdir()
    kept = models / "face_results"
    kept.mkdir()
    program = tmp_path / "aurum"
    program.write_text(f'#!/bin/sh\nexec {CHECKOUT}/.venv/bin/python -m tools "$@"\n')
    program.chmod(0o755)
    folders = {
        "/opt/aurum/model_repository": str(CHECKOUT / "model_repository"),
        "/models": str(models),
        "/tmp": str(scratch),
    }
    script = re.sub("|".join(folders), lambda match: folders[match[0]], init["args"][0])
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/clients/python/src",
        "HOSTNAME": "pod",
        "AURUM_HOME": str(scratch / "aurum"),
        "AURUM_MODEL_REPOSITORY": str(models),
    }
    result = subprocess.run(
        [*init["command"], script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr + result.stdout
    shipped = {each.name for each in (CHECKOUT / "model_repository").iterdir()}
    assert {each.name for each in models.iterdir()} == shipped
    # a stage that is there may hold other versions
    assert list(kept.iterdir()) == []
    weights = Path("face_detection/1/model.onnx")
    assert (models / weights).read_bytes() == (CHECKOUT / "model_repository" / weights).read_bytes()
    assert (models / "face_detection" / "configs" / "cuda.pbtxt").is_file()


def test_images_are_pinned_and_those_that_are_built_here(releases: dict[str, Release]) -> None:
    built = {path.name.split(".")[0] for path in (CHECKOUT / "deploy" / "docker").glob("*.Docker*")}
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    compose = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    used = {each["image"] for pod in releases["defaults"].pods for each in pod.all_containers}
    ours = {f"aurum-{name}:{version}" for name in built}
    assert ours <= used
    for name in ("redis", "qdrant"):
        assert compose[name]["image"] in used
    assert len(used - ours) == 3
    assert all(re.search(r":v?\d+\.\d+", image) for image in used)
    rest = {each["image"] for pod in releases["rest"].pods for each in pod.all_containers}
    assert {f"registry.example.com/aurum/aurum-{name}:{version}" for name in built} <= rest


def test_pods_are_restricted(release: Release) -> None:
    for pod in release.pods_and_tests:
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        if pod.component.partition("-")[0] in ("gateway", "worker", "tools", "triton", "test"):
            assert context["runAsUser"] == context["fsGroup"] == 10001
        assert context["runAsUser"] > 0
        assert pod.spec["automountServiceAccountToken"] is False
        account = release.named("ServiceAccount", pod.spec["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
        assert not any("hostPath" in volume for volume in pod.spec.get("volumes", []))
        for container in pod.all_containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_every_mount_has_a_volume(release: Release) -> None:
    claims = {each["metadata"]["name"] for each in release.kind("PersistentVolumeClaim")}
    for pod in release.pods:
        volumes = {each["name"]: each for each in pod.spec.get("volumes", [])}
        templates = pod.owner["spec"].get("volumeClaimTemplates", [])
        names = {*volumes, *(each["metadata"]["name"] for each in templates)}
        mounted = {
            mount["name"] for each in pod.all_containers for mount in each.get("volumeMounts", [])
        }
        assert mounted == names, pod.name
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "configMap" in volume:
                release.named("ConfigMap", volume["configMap"]["name"])

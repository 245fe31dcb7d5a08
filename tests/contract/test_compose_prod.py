"""The production stack in `docker-compose.prod.yml` fits the code, its own files and our rules."""

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.checkout import SECRETS
from gateway.redis import connect
from gateway.settings import CHECKOUT, PREFIX, Settings, load_settings
from tests.contract.test_compose import SERVICES as DEVELOPMENT_SERVICES
from tests.support.compose import DEVELOPMENT, PRODUCTION, PROFILES, mounts, resolved, sources
from tools.reference_docs.env_example import COMPOSE_VARIABLES

STACK: dict[str, Any] = resolved(PRODUCTION, *PROFILES)
SERVICES: dict[str, Any] = STACK["services"]
BOTH = [
    *(("development", name) for name in DEVELOPMENT_SERVICES),
    *(("production", name) for name in SERVICES),
]
KNOWN = {PREFIX + name.upper() for name in Settings.model_fields}
OURS = ("gateway", "worker")
WITHOUT_CHECK = {"worker", "qdrant-snapshots", "otel-collector", "jaeger", "loki"}
"""Services on which nothing waits, and whose images have nothing that could ask."""


def service_of(kind: str, name: str) -> dict[str, Any]:
    return (SERVICES if kind == "production" else DEVELOPMENT_SERVICES)[name]


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_is_complete_and_has_one_triton(profile):
    services = resolved(PRODUCTION, profile)["services"]
    assert [name for name in services if name.startswith("triton")] == [f"triton-{profile}"]
    assert set(SERVICES) - set(services) == {f"triton-{each}" for each in PROFILES} - set(services)


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_a_container_can_do_little(kind, name):
    service = service_of(kind, name)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert "cap_add" not in service
    assert service["restart"] == "unless-stopped"
    assert any(each.startswith("/tmp") for each in service["tmpfs"])
    for each in service.get("volumes", ()):
        # files of the checkout are read only, and nobody holds Docker's socket
        assert each["type"] == "volume" or each["read_only"]
        assert "docker.sock" not in each["source"]


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_images_are_pinned(kind, name):
    service = service_of(kind, name)
    image = service["image"]
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?$", image), image
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    if image.startswith("aurum-"):
        kind = image.removeprefix("aurum-").removesuffix(f":{version}")
        assert (CHECKOUT / "deploy" / "docker" / f"{kind}.Dockerfile").is_file()


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_what_is_waited_for_reports_its_health(kind, name):
    service = service_of(kind, name)
    for other, how in service.get("depends_on", {}).items():
        waited_for = service_of(kind, other)
        if how["condition"] == "service_healthy":
            assert waited_for["healthcheck"]["test"]
    disabled = service.get("healthcheck", {}).get("disable", False)
    assert disabled == (name in WITHOUT_CHECK)
    assert disabled or service["healthcheck"]["test"]


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_what_is_mounted_exists(kind, name):
    for source in mounts(service_of(kind, name)).values():
        assert Path(source).exists(), source


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_limits_and_keeps_its_logs(name):
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["logging"]["driver"] == ("json-file" if name == "vector" else "fluentd")


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_logs_on_the_disk_have_an_end(kind, name):
    logging = service_of(kind, name)["logging"]
    # beside what goes to Vector, Docker keeps five files of 20 MB
    assert logging["driver"] == "fluentd" or {"max-size", "max-file"} <= set(logging["options"])
    assert logging["driver"] == "json-file" or "max-size" not in logging["options"]


def test_only_nginx_is_published_beyond_this_machine():
    beyond = {
        (name, port["published"])
        for name, service in SERVICES.items()
        for port in service.get("ports", ())
        if port.get("host_ip") != "127.0.0.1"
    }
    assert beyond == {("nginx", "443"), ("nginx", "80")}


def test_networks_separate_callers_stores_and_monitoring():
    of = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert STACK["networks"]["data"]["internal"] is True
    assert of["nginx"] == {"edge", "app"}
    assert {name for name, networks in of.items() if "edge" in networks} == {"nginx"}
    stores = {name for name in of if name.startswith(("redis", "sentinel", "postgres", "qdrant"))}
    for name in stores:
        assert of[name] <= {"data", "monitoring"}, name
    assert {name for name in of if "data" in of[name]} == {*stores, *OURS}
    # who asks whom by name
    assert of["prometheus"] & of["gateway"] & of["triton-gpu"] & of["qdrant-1"]
    assert of["triton-gpu"] & of["otel-collector"] & of["gateway"]


def test_every_variable_is_a_setting_or_in_the_example():
    named = {name for file in sources() for name in re.findall(r"\bAURUM_\w+", file.read_text())}
    assert named
    assert named <= KNOWN
    used = {name for file in sources() for name in re.findall(r"\$\{(\w+)", file.read_text())}
    extra = {name for name, _, _ in COMPOSE_VARIABLES} - {"COMPOSE_PROFILES"}
    assert {name for name in used if not name.startswith(PREFIX)} == extra


def test_defaults_equal_those_of_the_settings_and_of_the_example():
    example = {name: default for name, default, _ in COMPOSE_VARIABLES}
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    assert example["IMAGE_TAG"] == version
    defaults = {
        PREFIX + name.upper(): str(field.default) for name, field in Settings.model_fields.items()
    }
    defaults["AURUM_MODEL_REPOSITORY"] = "./model_repository"
    for file in sources():
        for name, value in re.findall(r"\$\{(\w+):-([^}]*)\}", file.read_text()):
            assert value == {**defaults, **example}[name], (file, name)


@cache
def made_secrets(folder: Path) -> dict[str, str]:
    script = CHECKOUT / "deploy" / "compose" / "secrets.sh"
    for _ in range(2):
        subprocess.run([script, folder], check=True, capture_output=True)
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    return folder, made_secrets(folder)


def test_the_script_makes_each_secret_and_only_its_owner_may_enter(secrets):
    folder, texts = secrets
    declared = {Path(each["file"]).name for each in STACK["secrets"].values()}
    assert set(texts) == declared
    assert set(STACK["secrets"]) == declared
    assert all(texts.values())
    assert folder.stat().st_mode & 0o077 == 0
    # every secret that a service is given is used by something, and none is in a variable
    given = {each["source"] for service in SERVICES.values() for each in service.get("secrets", ())}
    assert given == declared
    for service in SERVICES.values():
        assert not SECRETS & set(service.get("environment") or {})


@pytest.mark.parametrize("name", OURS)
async def test_gateways_and_workers_start_with_their_environment_and_secrets(
    name, secrets, tmp_path, monkeypatch
):
    service = SERVICES[name]
    for each in service["secrets"]:
        (tmp_path / each["source"]).write_text(secrets[1][each["source"]])
    environment = {variable: str(value) for variable, value in service["environment"].items()}
    assert environment["AURUM_SECRETS_FOLDER"] == "/run/secrets"
    environment["AURUM_SECRETS_FOLDER"] = str(tmp_path)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    settings = load_settings(environment)

    assert settings.authentication == "on"
    assert settings.database_url is not None
    assert settings.redis_url is not None
    primary = SERVICES["postgres"]["environment"]
    password = secrets[1]["postgres_password"]
    assert settings.database_url.get_secret_value() == (
        f"postgresql://{primary['POSTGRES_USER']}:{password}@postgres/{primary['POSTGRES_DB']}"
    )
    client = connect(settings.redis_url.get_secret_value(), purpose="test", timeout_seconds=1)
    asked = [each.connection_pool.connection_kwargs for each in client.watchers.sentinels]
    named = {(each["host"], str(each["port"])) for each in asked}
    assert named == {
        (sentinel, SERVICES[sentinel]["environment"]["PORT"])
        for sentinel in SERVICES
        if sentinel.startswith("sentinel")
    }
    assert asked[0]["password"] == secrets[1]["redis_password"]
    await client.aclose()
    assert settings.qdrant_url == "http://qdrant:6333"
    for node in ("qdrant-1", "qdrant-2", "qdrant-3"):
        assert SERVICES[node]["networks"]["data"]["aliases"] == ["qdrant"]
    assert settings.qdrant_shard_number >= 3
    assert settings.qdrant_replication_factor == 2


def test_gateways_and_workers_share_everything():
    gateway, worker = (SERVICES[name] for name in OURS)
    for key in ("environment", "volumes", "secrets", "image", "networks"):
        assert gateway[key] == worker[key], key
    assert worker["command"] == ["python", "-m", "gateway.worker"]
    assert gateway["deploy"]["replicas"] == 2
    assert worker["deploy"]["replicas"] == 2


def test_tritons_are_those_of_the_development_stack_and_one_traces():
    cpu, gpu = (SERVICES[f"triton-{profile}"] for profile in PROFILES)
    for name, service in (("triton-cpu", cpu), ("triton-gpu", gpu)):
        assert service["image"] == DEVELOPMENT_SERVICES[name]["image"]
        assert service["healthcheck"] == DEVELOPMENT_SERVICES[name]["healthcheck"]
        assert service["networks"]["app"]["aliases"] == ["triton"]
    assert cpu["command"] == DEVELOPMENT_SERVICES["triton-cpu"]["command"]
    assert "devices" in gpu["deploy"]["resources"]["reservations"]
    shared = [flag for flag in gpu["command"] if not flag.startswith("--trace-config")]
    assert shared == DEVELOPMENT_SERVICES["triton-gpu"]["command"]
    collector = yaml.safe_load((CHECKOUT / "deploy/otel/collector.yml").read_text())
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert (
        f"--trace-config=opentelemetry,url=http://otel-collector:{port}/v1/traces" in gpu["command"]
    )


def test_images_of_ours_are_built_wherever_they_are_used():
    builds: dict[str, list[Any]] = {}
    for name, service in SERVICES.items():
        if service["image"].startswith("aurum-"):
            # without it, `pull --ignore-buildable` asks Docker Hub for the image, and fails
            assert "build" in service, name
            builds.setdefault(service["image"], []).append(service["build"])
    assert len(builds) == len(PROFILES) + 1
    for image, all_of_it in builds.items():
        assert all(build == all_of_it[0] for build in all_of_it), image


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_open_files_suffice_for_the_connections_of_nginx(kind, name):
    conf = (CHECKOUT / "deploy" / "nginx" / "nginx.conf").read_text()
    connections = re.search(r"worker_connections (\d+);", conf)
    assert connections
    # a caller's connection, one to a gateway, and a file for a body
    assert service_of(kind, name)["ulimits"]["nofile"] >= 3 * int(connections[1])


def test_a_container_has_the_time_that_its_program_needs_to_end():
    def seconds(name: str) -> float:
        return float(re.fullmatch(r"(?:(\d+)m)?(\d+)s", SERVICES[name]["stop_grace_period"])[2]) + (
            60 * float(re.match(r"(?:(\d+)m)?", SERVICES[name]["stop_grace_period"])[1] or 0)
        )

    settings = Settings.model_construct()
    drain = float(SERVICES["gateway"]["environment"]["AURUM_DRAIN_SECONDS"])
    # requests under way, and what gateway/app.py adds to them
    assert seconds("gateway") >= drain + settings.request_timeout_seconds + 2 + 5
    conf = (CHECKOUT / "deploy" / "nginx" / "nginx.conf").read_text()
    shutdown = re.search(r"worker_shutdown_timeout (\d+)s;", conf)
    assert shutdown
    assert seconds("nginx") > float(shutdown[1])
    [exiting] = [
        float(flag.partition("=")[2])
        for flag in SERVICES["triton-gpu"]["command"]
        if flag.startswith("--exit-timeout-secs")
    ]
    assert seconds("triton-gpu") > exiting
    assert seconds("triton-cpu") > exiting
    # it ends within two, whatever hangs
    assert seconds("worker") > 2
    for store in ("postgres", "postgres-replica", "qdrant-1", "qdrant-2", "qdrant-3"):
        assert seconds(store) >= 60


def test_who_names_another_meets_it_on_a_network(secrets):
    reached: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for network, how in service["networks"].items():
            for each in {name, *((how or {}).get("aliases") or ())}:
                reached.setdefault(each, set()).add(network)
    pairs = set()
    for name, service in SERVICES.items():
        texts = [str(service.get(key)) for key in ("command", "environment", "depends_on")]
        for source in mounts(service).values():
            inside = Path(source)
            files = [inside] if inside.is_file() else sorted(inside.rglob("*.yml"))
            if "model_repository" not in source:
                texts += [re.sub(r"(?m)^\s*#.*", "", file.read_text()) for file in files]
        texts += [secrets[1][each["source"]] for each in service.get("secrets", ())]
        text = "\n".join(texts)
        for other, networks in reached.items():
            if re.search(rf"(?<![\w.-]){re.escape(other)}(?=[:/,])(?!: )", text):
                pairs.add((name, other))
                assert networks & set(service["networks"]), (name, other)
    # some of those that must be found, so that this looks at something
    assert pairs >= {
        ("nginx", "gateway"),
        ("gateway", "triton"),
        ("gateway", "qdrant"),
        ("gateway", "postgres"),
        ("worker", "sentinel-1"),
        ("prometheus", "otel-collector"),
        ("prometheus", "qdrant-3"),
        ("otel-collector", "jaeger"),
        ("triton-gpu", "otel-collector"),
        ("vector", "loki"),
        ("grafana", "loki"),
    }


def test_redis_sentinels_and_qdrant_know_each_other():
    servers = [name for name in SERVICES if re.match(r"(redis|sentinel)-", name)]
    assert len(servers) == 5
    for name in servers:
        environment = SERVICES[name]["environment"]
        assert environment["NAME"] == name
        assert environment["PRIMARY"] == "redis-1"
        expected = "server" if name.startswith("redis") else "sentinel"
        assert SERVICES[name]["command"] == [expected]
    first, *others = (SERVICES[f"qdrant-{number}"]["command"] for number in (1, 2, 3))
    address = first[1]
    for number, command in enumerate(others, 2):
        assert command == ["--uri", f"http://qdrant-{number}:6335", "--bootstrap", address]
    nodes = [each for each in SERVICES["qdrant-snapshots"]["command"] if each.startswith("http")]
    assert nodes == [f"http://qdrant-{number}:6333" for number in (1, 2, 3)]


def test_no_volume_is_shared_by_two_that_write_to_it_but_the_home_of_the_gateways():
    users: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for each in service.get("volumes", ()):
            if each["type"] == "volume":
                users.setdefault(each["source"], set()).add(name)
    shared = {volume: names for volume, names in users.items() if len(names) > 1}
    assert shared == {"aurum-home": {"gateway", "worker"}}
    assert set(users) == set(STACK["volumes"])
    assert resolved(DEVELOPMENT)["name"] != STACK["name"]

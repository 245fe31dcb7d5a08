"""Prometheus, Alertmanager, Grafana, traces and logs fit the stack and the metrics."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import CHECKOUT
from gateway.telemetry.metrics import Metrics
from tests.contract.test_alert_rules import promtool
from tests.contract.test_compose_prod import SERVICES, STACK
from tests.support.compose import mounts
from tests.support.prerequisites import is_missing

DEPLOY = CHECKOUT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


def load(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text())


def queries(dashboard: Path) -> list[str]:
    """Return what a dashboard asks Prometheus."""
    return [
        target["expr"]
        for panel in json.loads(dashboard.read_text())["panels"]
        for target in panel["targets"]
        if target["datasource"]["type"] == "prometheus"
    ]


def labels() -> dict[str, set[str]]:
    """Return the labels of each name in /metrics."""
    found: dict[str, set[str]] = {}
    collectors = Metrics().registry._names_to_collectors
    for name, collector in collectors.items():
        own = set(getattr(collector, "_labelnames", ()))
        found[name] = own | ({"le"} if name.endswith("_bucket") else set())
    return found


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_ask_for_metrics_and_labels_that_are_exported(dashboard):
    exported = labels()
    for query in queries(dashboard):
        named = set(re.findall(r"aurum_\w+", query))
        assert named
        assert named <= set(exported), query
        known = set.union({"instance", "job"}, *(exported[name] for name in named))
        grouped = re.findall(r"by \(([^)]*)\)", query)
        assert {each for group in grouped for each in group.split(", ")} <= known, query
    text = dashboard.read_text()
    for panel in json.loads(text)["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
            own = [exported[name] for name in re.findall(r"aurum_\w+", target["expr"])]
            assert shown <= set.union({"instance"}, *own), target


def test_prometheus_understands_the_queries_of_the_dashboards(tmp_path):
    asked = [query for dashboard in DASHBOARDS for query in queries(dashboard)]
    assert len(asked) > 20
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(asked)
    ]
    path = tmp_path / "queries.rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", path)


def test_prometheus_accepts_its_configuration(tmp_path):
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    config = tmp_path / "prometheus" / "prometheus.yml"
    text = config.read_text().replace("/etc/prometheus", str(config.parent))
    secret = tmp_path / "key"
    secret.write_text("secret")
    config.write_text(text.replace("/run/secrets/AURUM_QDRANT_API_KEY", str(secret)))
    promtool("check", "config", config)
    assert mounts(SERVICES["prometheus"])["/etc/prometheus"] == str(DEPLOY / "prometheus")
    assert [each["source"] for each in SERVICES["prometheus"]["secrets"]] == [
        "AURUM_QDRANT_API_KEY"
    ]


def test_alertmanager_accepts_its_configuration():
    program = shutil.which("amtool")
    if program is None:
        is_missing("amtool is not installed (Debian: prometheus-alertmanager)")
    config = DEPLOY / "alertmanager" / "alertmanager.yml"
    done = subprocess.run([program, "check-config", config], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    files = re.findall(r"/run/secrets/(\S+)", config.read_text())
    assert files == [each["source"] for each in SERVICES["alertmanager"]["secrets"]]


def test_prometheus_scrapes_what_is_there():
    environment = SERVICES["gateway"]["environment"]
    ports = {"gateway": environment["AURUM_PORT"], "triton": "8002"}
    for job in load("prometheus/prometheus.yml")["scrape_configs"]:
        # what AurumTargetDown asks for
        assert job["relabel_configs"] == [{"target_label": "stack", "replacement": "aurum"}]
        for each in job.get("dns_sd_configs", ()):
            assert str(each["port"]) == ports[each["names"][0]]
        for each in job.get("static_configs", ()):
            hosts = {target.partition(":")[0] for target in each["targets"]}
            assert hosts <= set(SERVICES)
            assert all("monitoring" in SERVICES[host]["networks"] for host in hosts)
    assert "--metrics-port=8002" in SERVICES["triton-gpu"]["command"]
    [manager] = load("prometheus/prometheus.yml")["alerting"]["alertmanagers"]
    assert manager["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert environment["AURUM_METRICS_ACCESS"] == "public"


def test_grafana_reads_from_services_and_its_folder_of_dashboards():
    sources = load("grafana/provisioning/datasources/aurum.yml")["datasources"]
    hosts = {re.sub(r"http://|:\d+", "", source["url"]) for source in sources}
    assert hosts <= set(SERVICES)
    used = {
        target["datasource"]["uid"]
        for dashboard in DASHBOARDS
        for panel in json.loads(dashboard.read_text())["panels"]
        for target in panel["targets"]
    }
    assert used <= {source["uid"] for source in sources}
    [provider] = load("grafana/provisioning/dashboards/aurum.yml")["providers"]
    seen = mounts(SERVICES["grafana"])
    assert seen[provider["options"]["path"]] == str(DEPLOY / "grafana" / "dashboards")
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).name in {path.name for path in DASHBOARDS}


def test_traces_and_logs_go_to_services_of_the_stack():
    collector = load("otel/collector.yml")
    [pipeline] = collector["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(collector[kind])
    assert collector["exporters"]["otlp"]["endpoint"].partition(":")[0] in SERVICES
    vector = load("logs/vector.yml")
    [port] = SERVICES["vector"]["ports"]
    assert vector["sources"]["containers"]["address"] == f"0.0.0.0:{port['target']}"
    assert port["host_ip"] == "127.0.0.1"
    for name, service in SERVICES.items():
        if name != "vector":
            options = service["logging"]["options"]
            assert options["fluentd-address"] == f"127.0.0.1:{port['published']}"
            # containers run on when nothing takes their logs
            assert options["fluentd-async"] == "true"
    assert vector["sinks"]["loki"]["endpoint"] == "http://loki:3100"
    assert load("logs/loki.yml")["server"]["http_listen_port"] == 3100
    # the prefix that is cut from the names of containers
    assert f"^{STACK['name']}-" in vector["transforms"]["parsed"]["source"]
    assert SERVICES["vector"]["healthcheck"]["test"][-1].startswith(
        f"http://{vector['api']['address']}/"
    )

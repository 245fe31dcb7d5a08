"""What surrounds the pods of the chart: services, policies, budgets, scaling, monitoring."""

import re
from pathlib import Path
from typing import Any

import yaml

from gateway.api.table import ROUTES
from gateway.settings import CHECKOUT
from gateway.telemetry.metrics import Metrics
from tests.contract.test_alert_rules import promtool
from tests.support.helm import CHART, Helm, Pod, Release
from tests.support.kubernetes_schemas import CUSTOM

OUTSIDE = {
    "ingress-nginx": {"kubernetes.io/metadata.name": "ingress-nginx"},
    "monitoring": {"kubernetes.io/metadata.name": "monitoring"},
    "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
    "another": {"kubernetes.io/metadata.name": "another"},
}
"""Namespaces of others and their labels."""
DNS_LABELS = {"k8s-app": "kube-dns"}
STORES = {"postgres": {"postgres"}, "redis": {"redis"}, "qdrant": {"http", "grpc"}}


def test_services_lead_to_ports_that_exist(release: Release) -> None:
    for service in release.kind("Service"):
        spec = service["spec"]
        pods = release.selected(spec["selector"])
        # one Deployment each: two pools behind one name would get the same share of calls
        assert len(pods) == 1, service["metadata"]["name"]
        for port in spec["ports"]:
            assert pods[0].ports[port["targetPort"]] == port["port"]
    heads = {each["spec"]["serviceName"] for each in release.kind("StatefulSet")}
    headless = {
        each["metadata"]["name"]
        for each in release.kind("Service")
        if each["spec"].get("clusterIP") == "None"
    }
    assert heads <= headless


def test_owners_select_their_own_pods_only(release: Release) -> None:
    for pod in release.pods:
        selected = release.selected(pod.owner["spec"]["selector"]["matchLabels"])
        assert [each.name for each in selected] == [pod.name]
        for spread in pod.spec["topologySpreadConstraints"]:
            selected = release.selected(spread["labelSelector"]["matchLabels"])
            assert [each.name for each in selected] == [pod.name]
            # zones whose nodes are for others, such as those with GPUs, would count as empty
            assert spread["nodeTaintsPolicy"] == "Honor"


def _matches(peer: dict[str, Any], pod: Pod | None, namespace: str) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        wanted = peer["namespaceSelector"]["matchLabels"].items()
        if pod is not None or not wanted <= OUTSIDE[namespace].items():
            return False
        return "podSelector" not in peer or peer["podSelector"]["matchLabels"] == DNS_LABELS
    selector = peer["podSelector"]["matchLabels"].items()
    return pod is not None and selector <= pod.labels.items()


def _allows(
    release: Release,
    direction: str,
    pod: Pod,
    other: Pod | None,
    port: str | int,
    namespace: str = "",
) -> bool:
    """Whether the policies of a pod let a connection in (Ingress) or out (Egress)."""
    rules = []
    isolated = False
    for policy in release.kind("NetworkPolicy"):
        spec = policy["spec"]
        if spec["podSelector"]["matchLabels"].items() <= pod.labels.items():
            isolated = isolated or direction in spec["policyTypes"]
            rules += spec.get(direction.lower(), [])
    side = "from" if direction == "Ingress" else "to"
    return not isolated or any(
        any(_matches(peer, other, namespace) for peer in rule[side])
        and port in [entry["port"] for entry in rule["ports"]]
        for rule in rules
    )


def _needed(release: Release) -> set[tuple[str, str, str]]:
    """Connections within the release: from, to, port."""
    pods = {pod.component for pod in release.pods}
    found = {("test", "gateway", "http")}
    for caller in pods & {"gateway", "worker", "tools"}:
        for pool in (name for name in pods if name.startswith("triton-")):
            found |= {(caller, pool, port) for port in ("http", "grpc")}
        for store in pods & STORES.keys():
            found |= {(caller, store, port) for port in STORES[store]}
    if "tools" in pods:
        found.add(("tools", "gateway", "http"))
    if "qdrant" in pods:
        found |= {("qdrant", "qdrant", "peers"), ("qdrant", "qdrant", "http")}
    return found


def test_policies_allow_what_is_needed_and_nothing_else(release: Release) -> None:
    allowed = {
        (source.component, target.component, port)
        for source in release.pods_and_tests
        for target in release.pods_and_tests
        for port in target.ports
        if _allows(release, "Egress", source, target, port)
        and _allows(release, "Ingress", target, source, port)
    }
    assert allowed == _needed(release)


def test_others_reach_what_is_theirs(release: Release) -> None:
    allowed = {
        (namespace, target.component.partition("-")[0], port)
        for namespace in OUTSIDE
        for target in release.pods
        for port in target.ports
        if _allows(release, "Ingress", target, None, port, namespace)
    }
    needed = {("ingress-nginx", "gateway", port) for port in ("http", "grpc")}
    if release.kind("ServiceMonitor"):
        needed |= {("monitoring", "gateway", "http"), ("monitoring", "triton", "metrics")}
    assert allowed == needed


def test_pods_ask_for_names_and_call_nobody_else_outside(release: Release) -> None:
    for pod in release.pods_and_tests:
        names = _allows(release, "Egress", pod, None, 53, "kube-system")
        pulls = bool(pod.spec.get("initContainers")) and "aurum models pull" in str(pod.spec)
        assert names is (pod.component in ("gateway", "worker", "tools", "qdrant", "test") or pulls)
        for namespace in OUTSIDE:
            assert not _allows(release, "Egress", pod, None, 443, namespace)


def test_addresses_outside_are_those_of_the_values(
    releases: dict[str, Release],
) -> None:
    def blocks(release: Release, component: str) -> set[tuple[str, int]]:
        return {
            (peer["ipBlock"]["cidr"], port["port"])
            for policy in release.kind("NetworkPolicy")
            if policy["spec"]["podSelector"]["matchLabels"].items()
            <= release.pod(component).labels.items()
            for rule in policy["spec"].get("egress", [])
            for peer in rule["to"]
            if "ipBlock" in peer
            for port in rule["ports"]
        }

    rest, medium = releases["rest"], releases["medium"]
    weights, internet = ("10.9.0.0/16", 443), ("0.0.0.0/0", 443)
    assert blocks(rest, "gateway") == {weights, internet}
    assert blocks(rest, "worker") == blocks(rest, "triton-cpu") == {weights}
    assert blocks(rest, "postgres") == set()
    stores = {("10.20.0.0/16", 5432), ("10.20.0.0/16", 443)}
    assert blocks(medium, "gateway") == blocks(medium, "worker") == stores
    assert blocks(medium, "triton-cpu") == blocks(medium, "qdrant") == set()


def _fewest(release: Release, pod: Pod) -> int:
    """How many of a Deployment or StatefulSet there are at least."""
    for scaler in release.kind("HorizontalPodAutoscaler", "ScaledObject"):
        spec = scaler["spec"]
        if spec["scaleTargetRef"]["name"] == pod.name:
            return int(spec.get("minReplicas", spec.get("minReplicaCount")))
    return int(pod.owner["spec"]["replicas"])


def test_budgets_keep_pods_and_let_nodes_be_drained(release: Release) -> None:
    budgets: dict[str, dict[str, Any]] = {}
    for budget in release.kind("PodDisruptionBudget"):
        [pod] = release.selected(budget["spec"]["selector"]["matchLabels"])
        budgets[pod.name] = budget["spec"]
        assert budget["spec"]["maxUnavailable"] < _fewest(release, pod)
    several = {pod.name for pod in release.pods if _fewest(release, pod) > 1}
    assert set(budgets) == several


def test_scalers_have_targets_without_a_number_of_their_own(
    release: Release, chart_case: str
) -> None:
    targets = set()
    for scaler in release.kind("HorizontalPodAutoscaler", "ScaledObject"):
        spec = scaler["spec"]
        target = release.named("Deployment", spec["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"]
        targets.add(target["metadata"]["name"])
        fewest = spec.get("minReplicas", spec.get("minReplicaCount"))
        assert fewest <= spec.get("maxReplicas", spec.get("maxReplicaCount"))
        if "metrics" in spec or spec["triggers"][0]["type"] == "cpu":
            [container] = target["spec"]["template"]["spec"]["containers"]
            # a share of what was asked for
            assert "cpu" in container["resources"]["requests"]
    scaled = {
        each["metadata"]["name"]
        for each in release.kind("Deployment")
        if "replicas" not in each["spec"]
    }
    assert targets == scaled
    expected = {"medium": {"gateway", "triton-cpu"}}
    expected["large"] = {"gateway", "worker", "triton-cpu", "triton-gpu"}
    assert targets == {f"aurum-{name}" for name in expected.get(chart_case, set())}


def test_queue_times_are_asked_of_prometheus_for_this_release(
    releases: dict[str, Release],
) -> None:
    release = releases["large"]
    for name in ("aurum-worker", "aurum-triton-gpu", "aurum-triton-cpu"):
        [trigger] = release.named("ScaledObject", name)["spec"]["triggers"]
        query = trigger["metadata"]["query"]
        services = set(re.findall(r'service="([^"]+)"', query))
        assert services == {"aurum-gateway" if name == "aurum-worker" else name}
        assert set(re.findall(r'namespace="([^"]+)"', query)) == {
            release.pods[0].owner["metadata"]["namespace"]
        }


def test_prometheus_understands_the_queries(releases: dict[str, Release], tmp_path: Path) -> None:
    rules = [
        {
            "record": scaler["metadata"]["name"].replace("-", ":"),
            "expr": trigger["metadata"]["query"],
        }
        for scaler in releases["large"].kind("ScaledObject")
        for trigger in scaler["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
    assert len(rules) == 3
    path = tmp_path / "queries.rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", path)


def test_metrics_of_queries_exist() -> None:
    text = (CHART / "templates" / "autoscaling.yaml").read_text()
    exported = {family.name for family in Metrics().registry.collect()}
    named = set(re.findall(r"\baurum_\w+", text))
    assert named
    assert named <= exported
    # Triton's: tests/e2e/test_photos_to_answers.py


def test_monitors_find_services_and_rules_are_those_of_the_repository(
    releases: dict[str, Release], release: Release
) -> None:
    versions = {each["kind"]: each["apiVersion"] for each in release.kind(*CUSTOM)}
    assert versions.items() <= {
        ("ServiceMonitor", "monitoring.coreos.com/v1"),
        ("PrometheusRule", "monitoring.coreos.com/v1"),
        ("ScaledObject", "keda.sh/v1alpha1"),
        ("HTTPRoute", "gateway.networking.k8s.io/v1"),
        ("GRPCRoute", "gateway.networking.k8s.io/v1"),
    }
    paths = {route.path for route in ROUTES}
    for monitor in release.kind("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        services = [
            each for each in release.kind("Service") if wanted <= each["metadata"]["labels"].items()
        ]
        assert services
        [endpoint] = monitor["spec"]["endpoints"]
        assert endpoint["path"] in paths
        # what AurumTargetDown asks for
        assert endpoint["relabelings"] == [{"targetLabel": "stack", "replacement": "aurum"}]
        for service in services:
            assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    [endpoint] = releases["rest"].named("ServiceMonitor", "aurum-gateway")["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["authorization"]["credentials"]["name"] == "aurum-prometheus"
    files = sorted((CHECKOUT / "deploy" / "prometheus").glob("*.rules.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    [rule] = releases["medium"].kind("PrometheusRule")
    assert rule["spec"]["groups"] == groups
    assert len(groups) > 2


def test_a_package_of_the_chart_holds_the_rules(helm: Helm, tmp_path: Path) -> None:
    result = helm.run("package", str(CHART), f"--destination={tmp_path}")
    assert result.returncode == 0, result.stderr
    [package] = tmp_path.glob("*.tgz")
    result = helm.run("template", "aurum", str(package), changes={"monitoring.enabled": True})
    assert "AurumJobsWithoutWorker" in result.stdout

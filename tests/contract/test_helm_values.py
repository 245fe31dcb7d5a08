"""The values of the Helm chart: what they may be, what they are by default, and an overlay."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.checkout import SECRETS
from gateway.settings import CHECKOUT, PREFIX
from tests.support.chart_cases import CASES
from tests.support.helm import CHART, OVERLAY, Helm, Release
from tests.support.kubernetes_schemas import VERSIONS, faults

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_helm_finds_no_fault(helm: Helm, size: str) -> None:
    result = helm.run("lint", "--strict", str(CHART), values=CASES[size].values)
    assert result.returncode == 0, result.stdout
    assert "1 chart(s) linted, 0 chart(s) failed" in result.stdout


def test_the_chart_has_the_version_of_the_project() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gateway.replica": 2}, "additional properties 'replica' not allowed"),
        ({"settings": {"AURUM_DATABASE_URL": "x"}}, "invalid propertyName 'AURUM_DATABASE_URL'"),
        ({"gateway.tritonPool": "gpu"}, "triton.pools has no gpu"),
        ({"postgres.enabled": False}, "postgres.urlSecret.name"),
        ({"qdrant.enabled": False}, "qdrant.url"),
        ({"home.shared": False}, "objectStore.url"),
        ({"autoscaling.kind": "keda"}, "autoscaling.prometheusUrl"),
        ({"models.packs": ["buffalo_s"]}, "models.acceptLicences"),
        ({"ingress.enabled": True}, "ingress.host"),
        ({"ingress.enabled": True, "ingress.host": "h"}, "ingress.tlsSecret"),
        ({"routes.enabled": True, "routes.host": "h"}, "routes.parents"),
        (
            {"monitoring.enabled": True, "monitoring.access": "key"},
            "monitoring.keySecret.name",
        ),
        ({"images.gateway.tag": "latest"}, "/images/gateway/tag"),
        (
            {
                "models.packs": ["buffalo_s"],
                "models.acceptLicences": True,
                "models.source": "claim",
            },
            "models.packs",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_values_that_cannot_work_are_refused(
    helm: Helm, changes: dict[str, object], message: str
) -> None:
    result = helm.run("template", "aurum", str(CHART), changes=changes)
    assert result.returncode != 0
    assert message in result.stderr


def test_a_changed_setting_replaces_the_pods_that_read_it(
    helm: Helm, releases: dict[str, Release]
) -> None:
    changed = helm.render(
        values=CASES["small"].values, changes={"settings.AURUM_LOG_LEVEL": "warning"}
    )
    replaced = {
        pod.component
        for pod in releases["small"].pods
        if pod.owner["spec"]["template"] != changed.pod(pod.component).owner["spec"]["template"]
    }
    assert replaced == {"gateway", "worker", "tools"}


def test_settings_that_have_values_of_their_own_are_refused_as_settings(
    releases: dict[str, Release],
) -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    refused = set(schema["properties"]["settings"]["propertyNames"]["not"]["enum"])
    assert refused >= SECRETS
    gateway = releases["rest"].pod("gateway").container
    in_the_pod = {entry["name"] for entry in gateway["env"] if entry["name"].startswith(PREFIX)}
    # given twice, the one in the pod would win silently
    assert in_the_pod - {"AURUM_TLS_CERTIFICATE_FILE", "AURUM_TLS_KEY_FILE"} <= refused


def test_every_value_is_documented_by_a_default_and_known_to_the_schema() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())

    def missing(part: dict[str, Any], values: Any, path: str) -> list[str]:
        part = schema["definitions"][part["$ref"].split("/")[-1]] if "$ref" in part else part
        found = []
        for name, inner in part.get("properties", {}).items():
            if name not in values:
                found.append(f"{path}.{name}")
            elif isinstance(values[name], dict):
                found += missing(inner, values[name], f"{path}.{name}")
        return found

    gaps = missing(schema, VALUES, "")
    assert gaps == [".global", *(gap for gap in gaps if gap.startswith(".serviceAccounts."))]


def test_an_overlay_renders_and_changes_what_it_names(helm: Helm, tmp_path: Path) -> None:
    # kustomize unpacks nothing beside the chart, and the checkout stays as it is
    before = sorted(OVERLAY.rglob("*"))
    release = helm.kustomize(OVERLAY)
    assert sorted(OVERLAY.rglob("*")) == before
    assert faults(release.manifests, VERSIONS[-1]) == []
    gateway = release.pod("gateway")
    assert gateway.container["image"].startswith("registry.example.com/aurum/aurum-gateway:")
    assert gateway.spec["priorityClassName"] == "aurum-answers"
    assert "podAntiAffinity" in release.pod("postgres").spec["affinity"]
    assert {each["metadata"]["namespace"] for each in release.kind("Deployment")} == {"aurum"}
    # nothing random: two renderings are equal
    assert release.kind("Secret") == []
    # `helm test` is helm's: here it would be a pod like any other
    assert release.kind("Pod") == []

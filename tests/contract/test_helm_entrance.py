"""How callers reach the gateway of the chart: Ingresses, routes of the Gateway API, `helm test`."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gateway import health_check
from gateway.api.table import ROUTES
from gateway.kserve.grpc_upstream import SERVICE
from gateway.settings import CHECKOUT, Settings
from tests.support.helm import Helm, Manifest, Pod, Release

NGINX = "nginx.ingress.kubernetes.io"
UPLOAD = "/api/ml/score/batch"


def left_out(prefixes: list[str]) -> set[str]:
    """Return the routes that no prefix passes on; a prefix is passed on itself, too."""
    return {
        route.path
        for route in ROUTES
        if not any(route.path.startswith(f"{prefix}/") for prefix in prefixes)
    } - set(prefixes)


def paths(ingress: Manifest) -> list[dict[str, Any]]:
    return list(ingress["spec"]["rules"][0]["http"]["paths"])


def test_the_ingress_passes_on_every_route_but_metrics(releases: dict[str, Release]) -> None:
    release = releases["medium"]
    http, uploads, grpc = (
        release.named("Ingress", f"aurum-{part}") for part in ("http", "uploads", "grpc")
    )
    # / only leads to the documentation
    assert left_out([each["path"] for each in paths(http)]) == {"/", "/metrics"}
    assert {each["pathType"] for each in paths(http)} == {"Prefix"}
    [entry] = paths(uploads)
    assert (entry["path"], entry["pathType"]) == (UPLOAD, "Exact")
    assert UPLOAD in {route.path for route in ROUTES}
    [entry] = paths(grpc)
    # some versions of ingress-nginx refuse a dot in other kinds of paths
    assert (entry["path"], entry["pathType"]) == (f"/{SERVICE}", "ImplementationSpecific")
    for ingress in (http, uploads):
        assert all(re.fullmatch(r"/[\w/-]*", each["path"]) for each in paths(ingress))
    for ingress in (http, uploads, grpc):
        assert ingress["spec"]["tls"] == http["spec"]["tls"]
        for path in paths(ingress):
            backend = path["backend"]["service"]
            ports = release.named("Service", backend["name"])["spec"]["ports"]
            assert backend["port"]["name"] in [port["name"] for port in ports]
    # one of them asks for the certificate
    issuers = [
        each["metadata"]["annotations"].get("cert-manager.io/cluster-issuer")
        for each in (http, uploads, grpc)
    ]
    assert issuers == ["letsencrypt", None, None]


def test_the_ingress_does_what_our_nginx_does(releases: dict[str, Release]) -> None:
    def annotations(part: str) -> dict[str, str]:
        found = releases["medium"].named("Ingress", f"aurum-{part}")["metadata"]["annotations"]
        return {name.removeprefix(f"{NGINX}/"): value for name, value in found.items()}

    def limit(text: str, directive: str) -> str:
        return str(re.findall(rf"{directive} (\w+);", text)[0])

    folder = CHECKOUT / "deploy" / "nginx"
    here, _, uploads = (folder / "locations.conf").read_text().partition(f"location = {UPLOAD}")
    assert annotations("http")["proxy-body-size"] == limit(here, "client_max_body_size")
    assert annotations("uploads")["proxy-body-size"] == limit(uploads, "client_max_body_size")
    size = annotations("uploads")["proxy-body-size"].removesuffix("m")
    assert int(size) > Settings.model_fields["job_max_megabytes"].default
    # a body that is passed on at once cannot be given to another gateway
    assert "proxy-request-buffering" not in annotations("http")
    assert annotations("uploads")["proxy-request-buffering"] == "off"
    # of a whole stream of messages
    grpc = (folder / "grpc.conf").read_text()
    assert annotations("grpc")["proxy-body-size"] == limit(grpc, "client_max_body_size") == "0"
    for part, text in (("http", here), ("uploads", here), ("grpc", grpc)):
        kind = "grpc" if part == "grpc" else "proxy"
        for name in ("read", "connect"):
            seconds = annotations(part)[f"proxy-{name}-timeout"]
            assert f"{seconds}s" == limit(text, f"{kind}_{name}_timeout"), (part, name)
    assert annotations("http")["proxy-next-upstream-tries"] == limit(
        here, "proxy_next_upstream_tries"
    )


def test_an_ingress_speaks_as_the_gateway_does(releases: dict[str, Release]) -> None:
    def protocols(case: str) -> list[str | None]:
        return [
            each["metadata"]["annotations"].get(f"{NGINX}/backend-protocol")
            for each in releases[case].kind("Ingress")
        ]

    assert protocols("medium") == [None, None, "GRPC"]
    # gateway.tlsSecret is set
    assert protocols("rest") == ["HTTPS", "HTTPS", "GRPCS"]


def test_an_ingress_of_some_paths_does_not_open_others(helm: Helm) -> None:
    changes = {"ingress.enabled": True, "ingress.host": "h", "ingress.tlsSecret": "s"}
    release = helm.render(changes={**changes, "ingress.paths": ["/v2"], "gateway.grpc": False})
    [only] = release.kind("Ingress")
    assert [each["path"] for each in paths(only)] == ["/v2"]


def test_routes_pass_on_what_the_ingress_does(releases: dict[str, Release]) -> None:
    release = releases["rest"]
    http, grpc = (release.kind(kind)[0]["spec"] for kind in ("HTTPRoute", "GRPCRoute"))
    long, short = http["rules"]
    assert left_out([each["path"]["value"] for each in short["matches"]]) == {"/", "/metrics"}
    # a whole upload, and all events of a job, take longer than a request
    assert long["timeouts"] == {"request": "0s"}
    open_paths = [each["path"]["value"] for each in long["matches"]]
    assert open_paths == [UPLOAD, "/api/ml/jobs"]
    events = [route.path for route in ROUTES if route.path.endswith("/events")]
    assert events
    assert all(path.startswith(f"{open_paths[1]}/") for path in events)
    [match] = grpc["rules"][0]["matches"]
    assert match["method"]["service"] == SERVICE
    for rule in (*http["rules"], *grpc["rules"]):
        [backend] = rule["backendRefs"]
        ports = release.named("Service", backend["name"])["spec"]["ports"]
        assert backend["port"] in [port["port"] for port in ports]
    assert http["parentRefs"] == grpc["parentRefs"] == [{"name": "public", "namespace": "gateways"}]


@contextmanager
def answering(status: int, body: Mapping[str, Any]) -> Iterator[str]:
    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # AURUM_ALLOWED_HOSTS may not list the service
            assert self.headers["Host"] == "localhost"
            self.send_response(status if self.path == "/api/health/ready" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "state", "vectors", "expected"),
    [
        (200, "ready", "ready", 0),
        (200, "ready", "degraded", 1),
        (200, "degraded", "ready", 1),
        (503, "unready", "ready", 1),
    ],
)
def test_helm_test_fails_unless_every_part_is_ready(
    releases: dict[str, Release],
    capsys: pytest.CaptureFixture[str],
    status: int,
    state: str,
    vectors: str,
    expected: int,
) -> None:
    [pod] = [Pod(each) for each in releases["small"].kind("Pod")]
    python, option, module, url = pod.container["args"]
    assert (python, option, module) == ("python", "-m", health_check.__name__)
    assert url == "http://aurum-gateway:8080"
    assert pod.owner["metadata"]["annotations"]["helm.sh/hook"] == "test"
    ready = {"status": state, "parts": {"vectors": {"status": vectors, "detail": ""}}}
    with answering(status, ready) as address:
        assert health_check.main({}, [address]) == expected
    shown = capsys.readouterr()
    assert f"vectors: {vectors}" in shown.out if status == 200 else "not ready" in shown.err


def test_helm_test_trusts_the_gateways_own_certificate(releases: dict[str, Release]) -> None:
    [pod] = [Pod(each) for each in releases["rest"].kind("Pod")]
    assert pod.container["args"][-1] == "https://aurum-gateway:8080"
    [entry] = pod.container["env"]
    assert entry == {"name": "AURUM_TLS_CERTIFICATE_FILE", "value": "/run/aurum/tls/tls.crt"}
    [mount] = pod.container["volumeMounts"]
    assert entry["value"].startswith(mount["mountPath"])

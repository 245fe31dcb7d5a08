"""The configuration of nginx fits the gateway's settings and routes, and the Compose files."""

import json
import re
from pathlib import Path

import pytest

from gateway.api.jobs.events import HEARTBEAT_SECONDS
from gateway.api.jobs.schemas import MAX_WAIT_SECONDS
from gateway.api.table import ROUTES
from gateway.error_policy import POLICIES
from gateway.kserve.grpc_upstream import SERVICE
from gateway.settings import CHECKOUT, Settings
from tests.contract.test_compose import SERVICES as DEVELOPMENT
from tests.contract.test_compose_prod import SERVICES as PRODUCTION
from tests.support import nginx
from tests.support.certificates import Authority
from tests.support.compose import mounts

FOLDER = CHECKOUT / "deploy" / "nginx"
LOCATIONS = (FOLDER / "locations.conf").read_text()
GRPC = (FOLDER / "grpc.conf").read_text()
DEFAULTS = Settings.model_construct()


def block(start: str) -> str:
    """Return a location of locations.conf."""
    _, _, rest = LOCATIONS.partition(f"location {start} {{\n")
    assert rest, start
    return rest.partition("\n}")[0]


def seconds(directive: str, text: str) -> float:
    found = re.search(rf"^ *{directive} (\d+)s;", text, re.MULTILINE)
    assert found, directive
    return float(found[1])


def megabytes(text: str) -> int:
    found = re.search(r"client_max_body_size (\d+)m;", text)
    assert found
    return int(found[1])


def test_nginx_accepts_the_configurations(tmp_path):
    files = Authority(tmp_path).issue("localhost")
    for name, more in (("plain", {}), ("tls", {"tls": files})):
        main = nginx.write(tmp_path / name, 8088, **more)
        # what containers say about where the gateways are; 1.22 cannot follow names
        text = (
            nginx.CONTAINERS.read_text().replace("gateway:", "127.0.0.1:").replace(" resolve", "")
        )
        assert "successful" in nginx.check(main), nginx.check(main)
        (main.parent / "aurum" / "upstreams.conf").write_text(text)
        assert "successful" in nginx.check(main), nginx.check(main)


# what Debian's nginx.conf and nginx.org's say for all servers
_OF_DISTRIBUTIONS = """\
events {{ worker_connections 768; }}
pid {folder}/pid;
error_log {folder}/error.log;
http {{
    sendfile on; tcp_nopush on; types_hash_max_size 2048; default_type application/octet-stream;
    keepalive_timeout 65; gzip on; ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
    include aurum/aurum.conf;
    access_log {folder}/access.log aurum;
    include aurum/upstreams.conf;
    include aurum/{server}.conf;
}}
"""


@pytest.mark.parametrize("server", ["plain", "tls"])
def test_the_nginx_of_a_distribution_includes_it_as_the_docs_say(tmp_path, server):
    files = Authority(tmp_path).issue("localhost")
    main = nginx.write(tmp_path / "nginx", 8088, tls=files)
    main.write_text(_OF_DISTRIBUTIONS.format(folder=main.parent, server=server))
    assert "successful" in nginx.check(main), nginx.check(main)


def test_bodies_may_be_as_large_as_the_gateway_takes_and_no_larger_than_needed():
    # base64, and the fields of the form
    largest = DEFAULTS.max_enrol_megabytes * 4 / 3 + 4
    assert largest <= megabytes(LOCATIONS) <= largest + 2
    job = DEFAULTS.job_max_megabytes
    assert job < megabytes(block("= /api/ml/score/batch")) <= job * 1.02
    assert "client_max_body_size 0;" in GRPC


def test_events_do_not_pile_up_for_slow_readers():
    # nginx passes chunks on at once either way, but would store what a slow reader does not take
    assert "proxy_buffering off;" in block("~ ^/api/ml/jobs/[^/]+/events$")


def test_waits_are_longer_than_those_of_the_gateway():
    reading = seconds("proxy_read_timeout", LOCATIONS)
    assert reading > DEFAULTS.request_timeout_seconds
    assert reading > MAX_WAIT_SECONDS
    assert reading > 2 * HEARTBEAT_SECONDS
    for directive in ("grpc_read_timeout", "grpc_send_timeout", "client_body_timeout"):
        assert seconds(directive, GRPC) > DEFAULTS.body_timeout_seconds


def test_a_mark_of_a_failed_gateway_ends_before_the_next_one_is_restarted():
    for file in (FOLDER / "upstreams.conf", nginx.CONTAINERS):
        marks = {float(each) for each in re.findall(r"fail_timeout=(\d+)s", file.read_text())}
        for services in (DEVELOPMENT, PRODUCTION):
            drain = float(services["gateway"]["environment"]["AURUM_DRAIN_SECONDS"])
            assert marks
            assert max(marks) * 2 <= drain


def paths_of(pattern: str) -> set[tuple[str, str]]:
    """Return the routes that a regular expression of a location matches."""
    return {
        (route.method, route.path)
        for route in ROUTES
        if re.match(pattern, re.sub(r"{\w+}", "x", route.path))
    }


def test_locations_are_routes():
    patterns = re.findall(r"^location ~ (\S+) {", LOCATIONS, re.MULTILINE)
    repeated, events, hidden = patterns
    changing_nothing = {
        ("POST", f"/api/ml/{name}") for name in ("score", "detect", "embed", "verify")
    }
    assert paths_of(repeated) == {*changing_nothing, ("POST", "/api/collections/{name}/search")}
    assert paths_of(events) == {("GET", "/api/ml/jobs/{job_id}/events")}
    assert paths_of(hidden) == {("GET", "/metrics"), ("GET", "/api/health/ready")}
    exact = re.findall(r"^location = (\S+) {", LOCATIONS, re.MULTILINE)
    assert ("POST", exact[0]) in {(route.method, route.path) for route in ROUTES}
    # its own page of health hides none of the gateway's
    assert exact[1:] == ["/nginx/health"]
    assert not any(route.path.startswith("/nginx") for route in ROUTES)
    assert f"location /{SERVICE}/ {{" in GRPC


def test_answers_of_its_own_are_in_the_table_of_errors():
    found = re.findall(r"return (\d+) '(\{.*\})';", LOCATIONS)
    assert len(found) == 4
    for status, text in found:
        problem = json.loads(text)
        policy = POLICIES[problem["code"]]
        assert (int(status), problem["status"]) == (policy.status, policy.status)
        assert problem["title"] == policy.title


@pytest.mark.parametrize("services", [DEVELOPMENT, PRODUCTION], ids=["development", "production"])
def test_the_container_has_each_file_that_is_included_and_the_right_ports(services):
    service = services["nginx"]
    inside = mounts(service)
    folder = "/etc/nginx/"
    included = {
        folder + name
        for path in inside.values()
        for name in re.findall(r"^ *include (\S+);", Path(path).read_text(), re.MULTILINE)
    }
    assert included == set(inside) - {folder + "nginx.conf"}
    text = "".join(Path(path).read_text() for path in inside.values())
    listened = set(re.findall(r"listen (\d+)", text))
    assert {str(port["target"]) for port in service["ports"]} == listened
    url = service["healthcheck"]["test"][-1]
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/\S+)", url)
    assert found
    assert found[1] in listened
    assert f"location = {found[2]} {{" in text
    gateway = services["gateway"]["environment"]
    ports = set(re.findall(r"server gateway:(\d+)", text))
    assert ports == {gateway["AURUM_PORT"], gateway["AURUM_GRPC_PORT"]}
    files = set(re.findall(r"/run/secrets/(\S+);", text))
    assert files == {each["source"] for each in service.get("secrets", ())}
    # it writes to nothing else than what is a tmpfs
    writes = re.findall(r"(?:temp_path|^pid) (\S+);", text, re.MULTILINE)
    assert writes
    assert all(path.startswith("/tmp/") for path in writes)

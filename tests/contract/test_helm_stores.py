"""The secrets of the chart, and the scripts that start the stores in a release."""

import os
import re
import shutil
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis

from gateway.records.audit_keys import AuditKeys
from gateway.records.key_ring import KeyRing
from gateway.security.peppers import Peppers
from gateway.settings import CHECKOUT
from tests.support.chart_cases import CASES, OUTSIDE
from tests.support.helm import OVERLAY, Helm, Manifest, Release
from tests.support.kubernetes_api import cluster_with
from tests.support.prerequisites import is_missing
from tests.support.serving import free_ports

FOLDER = "/run/aurum/secrets"


def _check_keys(folder: Path) -> None:
    assert len(Peppers.load(folder / "api-keys.pepper").by_id) == 1
    assert len(AuditKeys.load(folder / "audit.key").by_id) == 1
    ring = KeyRing.parse((folder / "storage.key").read_bytes(), "storage.key")
    assert len(ring.by_id) == 1


def test_made_keys_can_be_read(releases: dict[str, Release], tmp_path: Path) -> None:
    content = releases["defaults"].secrets["aurum-keys"]
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    _check_keys(tmp_path)
    # every rendering outside a cluster makes others
    assert content != releases["small"].secrets["aurum-keys"]


def test_secrets_that_are_read_exist(release: Release, chart_case: str) -> None:
    named = set(release.secrets_named())
    made = {(name, key) for name, content in release.secrets.items() for key in content}
    assert named - made == CASES[chart_case].outside
    assert made <= named


def test_secrets_are_files_and_no_variables(release: Release) -> None:
    for pod in release.pods_and_tests:
        for container in pod.all_containers:
            given = [*container.get("env", []), *container.get("envFrom", [])]
            assert "secret" not in str([each for each in given if "value" not in each]).lower()
    shown = str([each for each in release.manifests if each["kind"] != "Secret"])
    for content in release.secrets.values():
        assert not any(value.decode().strip() in shown for value in content.values())


def test_urls_of_made_secrets_have_their_passwords(releases: dict[str, Release]) -> None:
    release = releases["defaults"]
    files = release.secret_files(release.pod("gateway"), OUTSIDE)
    for store, variable in (("postgres", "AURUM_DATABASE_URL"), ("redis", "AURUM_REDIS_URL")):
        secret = release.secrets[f"aurum-{store}"]
        assert files[variable] == secret["url"].decode()
        assert f":{secret['password'].decode()}@aurum-{store}:" in files[variable]


def test_an_upgrade_keeps_what_the_cluster_has(
    helm: Helm, releases: dict[str, Release], tmp_path: Path
) -> None:
    before = releases["defaults"]
    kinds: dict[str, set[str]] = {}
    for each in before.manifests:
        kinds.setdefault(each["apiVersion"], set()).add(each["kind"])
    # as an earlier version of the chart made it
    there = {**before.secrets, "aurum-postgres": {"password": b"old"}}
    with cluster_with(there, kinds, tmp_path) as kubeconfig:
        again = helm.render(kubeconfig=kubeconfig)
    after = again.secrets
    for name, content in there.items():
        assert content.items() <= after[name].items()
    assert after["aurum-postgres"]["url"] == b"postgresql://aurum:old@aurum-postgres:5432/aurum"
    assert before.secrets.keys() == after.keys() >= {"aurum-keys", "aurum-redis", "aurum-qdrant"}

    def rest(release: Release) -> list[Manifest]:
        return [each for each in release.manifests if each["kind"] != "Secret"]

    # nothing else is random, so an upgrade without changes replaces no pod
    assert rest(again) == rest(before)


def test_the_guide_makes_the_secrets_that_the_chart_reads(
    helm: Helm, releases: dict[str, Release], tmp_path: Path
) -> None:
    """The commands as they are, with a kubectl that keeps what it is given."""
    guide = (CHECKOUT / "docs" / "kubernetes.md").read_text()
    [commands] = [
        block for block in re.findall(r"```sh\n(.*?)```", guide, re.S) if "pepper" in block
    ]
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh -eu\n[ "$1 $2 $3 $4 $5" = "--namespace aurum create secret generic" ]\n'
        'mkdir "../$6"\nname=$6\nshift 6\n'
        'for each; do cp "${each#--from-file=}" "../$name/"; done\n'
    )
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-eu", "-c", commands], cwd=work, env=environment, check=True)
    made = {
        (folder.name, file.name) for folder in tmp_path.glob("aurum-*") for file in folder.iterdir()
    }
    overlay = helm.kustomize(OVERLAY)
    assert set(overlay.secrets_named()) - made == {("aurum-bucket", "secret")}
    _check_keys(tmp_path / "aurum-keys")
    own = releases["defaults"].secrets
    for store in ("postgres", "redis"):
        password = (tmp_path / f"aurum-{store}" / "password").read_text()
        url = own[f"aurum-{store}"]["url"].decode()
        mine = url.replace(own[f"aurum-{store}"]["password"].decode(), password)
        assert (tmp_path / f"aurum-{store}" / "url").read_text() == mine


def test_a_store_reads_the_password_that_the_gateway_has(release: Release) -> None:
    for store, name in (("postgres", "password"), ("redis", "password"), ("qdrant", "api-key")):
        for pod in (each for each in release.pods if each.component == store):
            [volume] = [each for each in pod.spec["volumes"] if each["name"] == "secrets"]
            assert volume["secret"]["items"] == [{"key": name, "path": name}]
            [mount] = [each for each in pod.container["volumeMounts"] if each["name"] == "secrets"]
            assert mount == {"name": "secrets", "mountPath": FOLDER, "readOnly": True}
            assert f"{FOLDER}/{name}" in str(pod.container)


def test_redis_asks_for_its_password_and_ends_when_told_to(
    releases: dict[str, Release], tmp_path: Path
) -> None:
    """The script as it is, with a folder and a port of the test."""
    if shutil.which("redis-server") is None:
        is_missing("redis-server is not installed (Debian: redis-server)")
    container = releases["defaults"].pod("redis").container
    [port] = free_ports(1)
    (tmp_path / "password").write_text("secret")
    [script] = container["args"]
    script = script.replace(FOLDER, str(tmp_path)).replace("/data", str(tmp_path))
    script = script.replace("redis-server -", f"redis-server - --port {port} --bind 127.0.0.1")
    # no shell may stay in front of it: as process 1 of a container it would ignore SIGTERM
    with subprocess.Popen(
        [*container["command"], script], stdout=subprocess.DEVNULL, cwd=tmp_path
    ) as process:
        try:
            client = redis.Redis(port=port, password="secret")
            for _ in range(100):
                try:
                    assert client.ping()
                    break
                except redis.ConnectionError:
                    process.poll()
                    assert process.returncode is None
                    threading.Event().wait(0.05)
            assert client.info("server")["process_id"] == process.pid
            assert b"secret" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=port).ping()
            check = container["readinessProbe"]["exec"]["command"]
            text = check[-1].replace(FOLDER, str(tmp_path))
            ask = [*check[:-1], text.replace("redis-cli", f"redis-cli -p {port}")]
            assert subprocess.run(ask, check=False).returncode == 0
            # a wrong password is no answer of a Redis that works
            (tmp_path / "password").write_text("wrong")
            assert subprocess.run(ask, check=False, stderr=subprocess.DEVNULL).returncode == 1
            client.close()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


class _Peer(BaseHTTPRequestHandler):
    """A peer that is ready from the second question on."""

    asked = 0

    def do_GET(self) -> None:
        assert self.path == "/readyz"
        _Peer.asked += 1
        self.send_response(200 if _Peer.asked > 1 else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_peers_of_qdrant_join_in_turn_and_start_alone_later(
    releases: dict[str, Release], tmp_path: Path
) -> None:
    """The script as it is, with names and a port of this machine."""
    owner = releases["medium"].pod("qdrant").owner
    # all at once: after the loss of all of them none is ready before another one answers
    assert owner["spec"]["podManagementPolicy"] == "Parallel"
    container = releases["medium"].pod("qdrant").container
    (tmp_path / "api-key").write_text("secret")
    (tmp_path / "storage").mkdir()
    started = tmp_path / "entrypoint.sh"
    started.write_text('#!/bin/sh\necho "$QDRANT__SERVICE__API_KEY" "$@"\n')
    started.chmod(0o755)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Peer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    [script] = container["args"]
    script = script.replace(FOLDER, str(tmp_path))
    asked, count = re.subn(
        r'/dev/tcp/\$\(peer "\$1"\)/6333', f"/dev/tcp/127.0.0.1/{server.server_port}", script
    )
    assert count == 1
    assert "6333" in str(container["ports"])

    def start(number: int) -> str:
        done = subprocess.run(
            [*container["command"], asked],
            cwd=tmp_path,
            env={**os.environ, "HOSTNAME": f"aurum-qdrant-{number}"},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.strip()

    uri = "http://aurum-qdrant-{}.aurum-qdrant-peers:6335"
    try:
        assert start(0) == f"secret --uri {uri.format(0)}"
        assert _Peer.asked == 0
        assert start(2) == f"secret --uri {uri.format(2)} --bootstrap {uri.format(0)}"
        assert _Peer.asked == 2
        # it has joined: nobody needs to be there
        (tmp_path / "storage" / "raft_state.json").touch()
        server.shutdown()
        server.server_close()
        assert start(2).startswith("secret --uri")
    finally:
        server.server_close()


def test_a_single_qdrant_asks_nobody(helm: Helm) -> None:
    [script] = helm.render().pod("qdrant").container["args"]
    assert "bootstrap" not in script
    assert "exec ./entrypoint.sh" in script

"""A private nginx with the configuration that we ship."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.settings import CHECKOUT
from tests.support.certificates import Files
from tests.support.prerequisites import is_missing
from tests.support.serving import free_ports

_SHIPPED = CHECKOUT / "deploy" / "nginx"
CONTAINERS = CHECKOUT / "deploy" / "compose" / "upstreams.conf"
_START_SECONDS = 20


def find_nginx() -> str:
    """The program; skips the test where there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        is_missing("nginx is not installed: as root, `make test` installs it")
    return found


def write(
    folder: Path,
    port: int,
    gateways: Sequence[int] = (8080, 8081),
    *,
    grpc_port: int | None = None,
    grpc: Sequence[int] = (),
    tls: Files | None = None,
    gateway_ca: Path | None = None,
    requests_per_second: int = 10_000,
) -> Path:
    """Write the shipped configuration with other ports and paths; returns its main file.

    grpc: ports of the gateways' gRPC; `grpc_port` balances between them without TLS.
    tls: certificate of the server; without one it is `plain.conf`.
    gateway_ca: authority of the gateways' certificates; None: they speak plain HTTP.
    requests_per_second: limit of an address, much higher than ours for tests of other things.
    """
    copy = folder / "aurum"
    shutil.copytree(_SHIPPED, copy)
    plain_http, other = free_ports(2)
    replaced = {
        # first, because the folders of tests lie below /tmp, too
        "/tmp/": f"{folder}/",
        "aurum/server.conf;": "aurum/plain.conf;" if tls is None else "aurum/tls.conf;",
        "listen 8088": f"listen 127.0.0.1:{port}",
        "listen 8089": f"listen 127.0.0.1:{grpc_port or other}",
        "listen 8443": f"listen 127.0.0.1:{port}",
        "listen 8080": f"listen 127.0.0.1:{plain_http}",
        "rate=100r/s": f"rate={requests_per_second}r/s",
        "worker_processes auto": "worker_processes 1",
        "/dev/stderr": str(folder / "error.log"),
        "/dev/stdout": str(folder / "access.log"),
    }
    for number, gateway in enumerate(gateways):
        replaced[f"server 127.0.0.1:{8080 + number} "] = f"server 127.0.0.1:{gateway} "
    for number, gateway in enumerate(grpc, 1):
        replaced[f"127.0.0.1:900{number}"] = f"127.0.0.1:{gateway}"
    if tls is not None:
        replaced["/run/secrets/edge.pem"] = str(tls.certificate)
        replaced["/run/secrets/edge.key"] = str(tls.key)
    if gateway_ca is not None:
        replaced["/run/secrets/internal_ca.pem"] = str(gateway_ca)
        replaced["default http;"] = "default https;"
        replaced["default grpc;"] = "default grpcs;"
        replaced["include aurum/upstreams.conf;"] = (
            "include aurum/upstreams.conf; include aurum/internal-tls.conf;"
        )
    seen = set()
    for file in copy.iterdir():
        text = file.read_text()
        for ours, theirs in replaced.items():
            if ours in text:
                seen.add(ours)
                text = text.replace(ours, theirs)
        file.write_text(text)
    assert seen == set(replaced), set(replaced) - seen
    main = folder / "nginx.conf"
    shutil.move(copy / "nginx.conf", main)
    return main


def check(main: Path) -> str:
    """Have nginx read a configuration; returns what it says, which ends with `successful`."""
    command = [find_nginx(), "-t", "-p", str(main.parent), "-c", str(main)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@contextmanager
def balancing(folder: Path, port: int, gateways: Sequence[int], **more: object) -> Iterator[str]:
    """Balance between the gateways on these ports; yields the URL. See `write`."""
    main = write(folder, port, gateways, **more)  # type: ignore[arg-type]
    process = subprocess.Popen(
        [find_nginx(), "-p", str(folder), "-c", str(main), "-g"]
        # without a master, so that it keeps the user and ends with the process
        + ["daemon off; master_process off;"]
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError("nginx did not start")
            time.sleep(0.05)
        yield f"{'http' if more.get('tls') is None else 'https'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

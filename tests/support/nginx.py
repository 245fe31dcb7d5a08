"""A private nginx with the configuration that we ship."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from gateway.settings import CHECKOUT
from tests.support.prerequisites import is_missing
from tests.support.serving import free_ports

_CONFIG = CHECKOUT / "deploy" / "nginx" / "aurum.conf"
_MAIN = """daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/aurum.conf;
}}
"""


def find_nginx() -> str:
    """The program; skips the test where there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        is_missing("nginx is not installed: as root, `make test` installs it")
    return found


@contextmanager
def balancing(
    folder: Path,
    port: int,
    gateways: Sequence[int],
    *,
    grpc_port: int | None = None,
    grpc: Sequence[int] = (),
) -> Iterator[str]:
    """Balance between the gateways on these ports; yields the URL.

    grpc: ports of their gRPC; `grpc_port` balances between them.
    """
    program = find_nginx()
    text = _CONFIG.read_text()
    assert text.count("127.0.0.1:80") == len(gateways)
    for number, gateway in enumerate(gateways):
        text = text.replace(f"127.0.0.1:808{number}", f"127.0.0.1:{gateway}")
    for number, gateway in enumerate(grpc, 1):
        text = text.replace(f"127.0.0.1:900{number}", f"127.0.0.1:{gateway}")
    chosen = grpc_port or free_ports(1)[0]
    text = text.replace("listen 8089", f"listen 127.0.0.1:{chosen}")
    (folder / "aurum.conf").write_text(re.sub("listen 8088", f"listen 127.0.0.1:{port}", text))
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError("nginx did not start")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/metrics", timeout=5).status_code == 404
    except requests.ConnectionError:
        return False

"""A private redis-server for tests."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.certificates import Files
from tests.support.prerequisites import is_missing
from tests.support.serving import free_ports


def find_server() -> str:
    """The program; skips the test where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        is_missing("redis-server is not installed: as root, `make test` installs it")
    return program


@contextmanager
def running(path: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that listens on the socket, if nothing `more` is said; it is gone at the end."""
    command = [find_server(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir"]
    process = subprocess.Popen(
        [*command, str(path.parent), *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while not _is_listened_on(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError("redis-server did not start")
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def _is_listened_on(path: Path) -> bool:
    """Whether a server takes connections: its socket is there a moment before it does."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


@contextmanager
def encrypted_server(files: Files, authority: Path, password: str) -> Iterator[int]:
    """Run a server that speaks TLS only, to clients with a certificate; yields its port."""
    (port,) = free_ports(1)
    with TemporaryDirectory(prefix="aurum-redis-") as folder:
        more = [
            *("--tls-port", str(port)),
            *("--tls-cert-file", str(files.certificate)),
            *("--tls-key-file", str(files.key)),
            *("--tls-ca-cert-file", str(authority)),
            *("--tls-auth-clients", "yes"),
            *("--requirepass", password),
        ]
        with running(Path(folder) / "redis.sock", *more):
            yield port


@contextmanager
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a server with a folder of its own; yields its URL and process."""
    # the path of a socket may have 107 bytes only
    with TemporaryDirectory(prefix="aurum-redis-") as folder:
        path = Path(folder) / "redis.sock"
        with running(path) as process:
            yield f"unix://{path}", process

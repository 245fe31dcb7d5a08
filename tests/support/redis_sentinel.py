"""A Redis primary, a replica and three Sentinels, started as in the production stack."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.settings import CHECKOUT
from tests.support.redis import find_server
from tests.support.serving import free_ports

START = CHECKOUT / "deploy" / "redis" / "start.sh"
PASSWORD = "only-for-tests"
_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Watched:
    """The running processes, by port."""

    servers: Mapping[int, "subprocess.Popen[bytes]"]
    sentinels: tuple[int, ...]

    @property
    def url(self) -> str:
        """For `AURUM_REDIS_URL`."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/aurum?sentinel_password={PASSWORD}"

    def ask(self, port: int, *words: str) -> list[str]:
        """Send a command to a server or a Sentinel."""
        answer = subprocess.run(
            ["redis-cli", "-p", str(port), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": os.environ["PATH"], "REDISCLI_AUTH": PASSWORD},
        )
        return answer.stdout.splitlines()

    def primary(self) -> int:
        """The port that the Sentinels name."""
        return int(self.ask(self.sentinels[0], "sentinel", "get-master-addr-by-name", "aurum")[1])

    def kill(self, port: int) -> None:
        """Kill a server."""
        self.servers[port].send_signal(signal.SIGKILL)
        self.servers[port].wait()


@contextmanager
def running() -> Iterator[Watched]:
    """Run them until the end; the Sentinels know the replica and each other from the start."""
    find_server()
    primary, replica, *sentinels = free_ports(5)
    processes: list[subprocess.Popen[bytes]] = []
    with TemporaryDirectory(prefix="aurum-sentinel-") as name:
        root = Path(name)
        (root / "password").write_text(PASSWORD)

        def start(role: str, port: int) -> "subprocess.Popen[bytes]":
            folder = root / str(port)
            folder.mkdir()
            variables = {
                "PATH": os.environ["PATH"],
                "NAME": "127.0.0.1",
                "PORT": str(port),
                "PRIMARY": "127.0.0.1",
                "PRIMARY_PORT": str(primary),
                "PASSWORD_FILE": str(root / "password"),
                "FOLDER": str(folder),
                "DOWN_AFTER_MILLISECONDS": "500",
                "FAILOVER_MILLISECONDS": "2000",
            }
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen([START, role], env=variables, stdout=log, stderr=log)
            processes.append(process)
            return process

        try:
            servers = {port: start("server", port) for port in (primary, replica)}
            for port in sentinels:
                start("sentinel", port)
            watched = Watched(servers, tuple(sentinels))
            _wait(watched, primary, processes)
            yield watched
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _wait(watched: Watched, primary: int, processes: list["subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_complete(watched, primary):
        if time.monotonic() > deadline or any(each.poll() is not None for each in processes):
            raise TimeoutError("Redis and its Sentinels did not start")
        time.sleep(0.1)


def _is_complete(watched: Watched, primary: int) -> bool:
    state = "state=online"
    if not any(state in line for line in watched.ask(primary, "info", "replication")):
        return False
    return all(
        "slaves=1,sentinels=3" in "".join(watched.ask(port, "info", "sentinel"))
        for port in watched.sentinels
    )

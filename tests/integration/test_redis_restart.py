"""A Redis and a Sentinel of the production stack start again: who leads stays, the rest is new."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.redis import find_server
from tests.support.redis_sentinel import START
from tests.support.serving import free_ports, wait_until


class Place:
    """A folder for one server, and a password file."""

    def __init__(self, folder: Path, role: str, primary: int) -> None:
        find_server()
        self.role = role
        [self.port] = free_ports(1)
        self.password, self.conf = folder / "password", folder / "redis.conf"
        self.conf.write_text("maxmemory 100mb\n")
        self.variables = {
            "PATH": os.environ["PATH"],
            "NAME": "127.0.0.1",
            "PORT": str(self.port),
            "PRIMARY": "127.0.0.1",
            "PRIMARY_PORT": str(primary or self.port),
            "PASSWORD_FILE": str(self.password),
            "FOLDER": str(folder),
            "CONFIG": str(self.conf),
        }

    def ask(self, *words: str, password: str) -> str:
        answer = subprocess.run(
            ["redis-cli", "-p", str(self.port), *words],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "REDISCLI_AUTH": password},
        )
        return answer.stdout + answer.stderr

    @contextmanager
    def running(self, password: str) -> Iterator[None]:
        self.password.write_text(password)
        process = subprocess.Popen(
            ["/bin/sh", START, self.role],
            env=self.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert wait_until(lambda: "PONG" in self.ask("ping", password=password))
            yield
        finally:
            process.terminate()
            process.wait(30)


def test_a_server_takes_new_limits_and_a_new_password_and_stays_what_it_was(tmp_path: Path) -> None:
    place = Place(tmp_path, "server", 0)
    with place.running("first"):
        assert "role:master" in place.ask("info", "replication", password="first")
        # as a Sentinel does after a failover
        place.ask("replicaof", "127.0.0.1", "1", password="first")
        assert "OK" in place.ask("config", "rewrite", password="first")
    place.conf.write_text("maxmemory 200mb\n")
    with place.running("second"):
        assert "WRONGPASS" in place.ask("ping", password="first")
        role = place.ask("info", "replication", password="second")
        assert "role:slave" in role
        assert "master_port:1\n" in role.replace("\r", "")
        assert "209715200" in place.ask("config", "get", "maxmemory", password="second")
        place.ask("replicaof", "no", "one", password="second")
        place.ask("config", "rewrite", password="second")
    with place.running("second"):
        assert "role:master" in place.ask("info", "replication", password="second")


def test_a_sentinel_takes_a_new_password_and_keeps_what_it_knows(tmp_path: Path) -> None:
    place = Place(tmp_path, "sentinel", 6379)
    with place.running("first"):
        myself = place.ask("sentinel", "myid", password="first")
        # what it learns after a failover
        place.ask("sentinel", "remove", "aurum", password="first")
        place.ask("sentinel", "monitor", "aurum", "127.0.0.2", "7000", "2", password="first")
        assert "OK" in place.ask("sentinel", "flushconfig", password="first")
    with place.running("second"):
        assert "WRONGPASS" in place.ask("ping", password="first")
        address = place.ask("sentinel", "get-master-addr-by-name", "aurum", password="second")
        assert address.split() == ["127.0.0.2", "7000"]
        assert place.ask("sentinel", "myid", password="second") == myself
    text = (tmp_path / "sentinel.conf").read_text()
    assert "auth-pass aurum" in text
    assert "first" not in text

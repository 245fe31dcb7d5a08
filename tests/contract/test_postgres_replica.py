"""A real replica follows a real primary, both started by the scripts of the production stack."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import CHECKOUT
from tests.support.postgres import find_binaries
from tests.support.prerequisites import is_missing
from tests.support.serving import free_ports

SCRIPTS = CHECKOUT / "deploy" / "postgres"
_SECONDS = 60


class Pair:
    """A primary and a replica on ports of this machine."""

    def __init__(self, folder: Path) -> None:
        binaries = find_binaries()
        if binaries is None:
            is_missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        self.folder = folder
        self.primary, self.replica = free_ports(2)
        self.identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            self.identity = {"user": owner.pw_uid, "group": owner.pw_gid}
        for file in SCRIPTS.iterdir():
            shutil.copyfile(file, folder / file.name)
            (folder / file.name).chmod(0o644)
        (folder / "password").write_text("only-for-tests")
        (folder / "password").chmod(0o644)
        self.environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "LC_ALL": "C",
            "PGHOST": str(folder),
            "POSTGRES_USER": "aurum",
            "POSTGRES_DB": "postgres",
            "REPLICATION_PASSWORD_FILE": str(folder / "password"),
            "PASSWORD_FILE": str(folder / "password"),
            "PASSWORDS": str(folder / "pgpass"),
            "PRIMARY": "127.0.0.1",
            "PRIMARY_PORT": str(self.primary),
            "CONFIG": str(folder / "postgresql.conf"),
        }

    def run(self, *command: object, **variables: object) -> str:
        environment = self.environment | {name: str(value) for name, value in variables.items()}
        done = subprocess.run(
            [str(part) for part in command],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self.identity,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ask(self, port: int, statement: str) -> str:
        return self.run(
            *("psql", "-X", "-A", "-t", "-U", "aurum", "-d", "postgres", "-p", port),
            *("-c", statement),
        )

    @contextmanager
    def start(self, command: list[object], port: int, **variables: object) -> Iterator[None]:
        environment = self.environment | {name: str(value) for name, value in variables.items()}
        with (self.folder / f"log-{port}").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **self.identity,
            )
        try:
            self.wait(lambda: self.ask(port, "SELECT 1") == "1", process)
            yield
        finally:
            process.terminate()
            process.wait(_SECONDS)

    def wait(self, done: Callable[[], bool], process: Any = None) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                if done():
                    return
            except AssertionError:
                pass
            if time.monotonic() > deadline or (process is not None and process.poll() is not None):
                logs = [file.read_text() for file in self.folder.glob("log-*")]
                raise TimeoutError("\n".join(logs))
            time.sleep(0.1)


@pytest.fixture
def pair():
    folder = Path(tempfile.mkdtemp(prefix="aurum-pg-", dir="/tmp"))
    try:
        yield Pair(folder)
    finally:
        shutil.rmtree(folder)


def test_a_replica_copies_the_primary_follows_it_and_takes_its_place(pair):
    data, copy = pair.folder / "primary", pair.folder / "replica"
    pair.run("initdb", "-D", data, "-U", "aurum", "-A", "trust", "-N")
    options = f"-k {pair.folder} -F"
    primary = [
        *("postgres", "-D", data, "-c", f"config_file={pair.folder / 'postgresql.conf'}"),
        *("-p", pair.primary, *options.split()),
    ]
    with ExitStack() as second:
        with pair.start(primary, pair.primary):
            # as the image does before it starts the server for others
            pair.run("sh", SCRIPTS / "allow-replicas.sh", PGDATA=data, PGPORT=pair.primary)
            pair.ask(pair.primary, "SELECT pg_reload_conf()")
            pair.ask(pair.primary, "CREATE TABLE faces AS SELECT 1 AS id")
            # what an interrupted copy left does not disturb
            pair.run("sh", "-c", f"mkdir -m 777 {copy} && touch {copy}/half")
            second.enter_context(
                pair.start(
                    ["sh", SCRIPTS / "start-replica.sh"],
                    pair.replica,
                    PGDATA=copy,
                    OPTIONS=f"-p {pair.replica} {options}",
                )
            )
            assert pair.ask(pair.replica, "SELECT pg_is_in_recovery()") == "t"
            pair.ask(pair.primary, "INSERT INTO faces VALUES (2)")
            pair.wait(lambda: pair.ask(pair.replica, "SELECT count(*) FROM faces") == "2")
            slot = "SELECT slot_name, active FROM pg_replication_slots"
            assert pair.ask(pair.primary, slot) == "replica|t"
            # others need the password
            rules = (data / "pg_hba.conf").read_text().splitlines()
            assert rules[-1] == "host replication replicator all scram-sha-256"
        assert pair.ask(pair.replica, "SELECT pg_promote()") == "t"
        pair.ask(pair.replica, "INSERT INTO faces VALUES (3)")
        assert pair.ask(pair.replica, "SELECT count(*) FROM faces") == "3"
        # the old primary, emptied, follows the new one, which has made no slot for it yet
        shutil.rmtree(data)
        pair.run("mkdir", "-m", "777", data)
        again = {"PGDATA": data, "PRIMARY_PORT": pair.replica}
        start = ["sh", SCRIPTS / "start-replica.sh"]
        with pair.start(start, pair.primary, OPTIONS=f"-p {pair.primary} {options}", **again):
            pair.wait(lambda: pair.ask(pair.primary, "SELECT count(*) FROM faces") == "3")
            assert pair.ask(pair.replica, slot) == "replica|t"
        # one that was given up is made anew with the next copy
        shutil.rmtree(data)
        pair.run("mkdir", "-m", "777", data)
        assert pair.ask(pair.replica, slot) == "replica|f"
        with pair.start(start, pair.primary, OPTIONS=f"-p {pair.primary} {options}", **again):
            pair.wait(lambda: pair.ask(pair.replica, slot) == "replica|t")
    for port in (pair.primary, pair.replica):
        assert "only-for-tests" not in (pair.folder / f"log-{port}").read_text()
    assert (pair.folder / "pgpass").stat().st_mode & 0o077 == 0

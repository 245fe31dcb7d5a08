"""Redis with a replica and Sentinels, PostgreSQL with a replica, as in the production stack."""

import asyncio
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.cluster.network import Host
from benchmarks.failures.postgres import find_binaries
from benchmarks.failures.programs import Program, answers
from benchmarks.support.served import CHECKOUT

PASSWORD: Final = "of-one-run"  # noqa: S105 - of stores that live for one run
SENTINEL_PORT: Final = 26379
_DEPLOYED: Final = CHECKOUT / "deploy"
_REDIS_PORT: Final = 6379
_POSTGRES_PORT: Final = 5432
_LINKS: Final = "host all all 10.77.0.0/24 trust\nhost replication all 10.77.0.0/24 trust\n"


def redis(folder: Path, host: Host, primary: Host, role: str) -> Program:
    """Prepare a Redis (`server`) or a Sentinel (`sentinel`), started by the shipped script."""
    home = folder / host.name
    home.mkdir(parents=True)
    (home / "password").write_text(PASSWORD)
    environment = {
        "PATH": os.environ["PATH"],
        "NAME": host.address,
        "PRIMARY": primary.address,
        "PASSWORD_FILE": str(home / "password"),
        "FOLDER": str(home),
    }
    port = _REDIS_PORT if role == "server" else SENTINEL_PORT

    async def ready() -> bool:
        ask = f"AUTH {PASSWORD}\r\nPING\r\n".encode()
        return await answers(port, send_first=ask, expect=b"+OK", host=host.address)

    command = host.command(str(_DEPLOYED / "redis" / "start.sh"), role)
    return Program(host.name, command, environment, folder / f"{host.name}.log", ready)


def redis_url(sentinels: Sequence[Host]) -> str:
    """Return the URL of the master that the Sentinels name."""
    hosts = ",".join(f"{each.address}:{SENTINEL_PORT}" for each in sentinels)
    return f"redis+sentinel://:{PASSWORD}@{hosts}/aurum?sentinel_password={PASSWORD}"


def database_url(hosts: Sequence[Host]) -> str:
    """Return the URL of whichever of the servers is the primary now."""
    named = "&".join(f"host={each.address}:{_POSTGRES_PORT}" for each in hosts)
    return f"postgresql://postgres@/postgres?{named}&target_session_attrs=primary"


class Postgres:
    """A PostgreSQL of a host: the primary, or a replica of another one."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.host = host
        self._folder = folder / host.name
        self._data = self._folder / "data"
        self._log = folder / f"{host.name}.log"
        self._binaries = find_binaries()
        self._user = pwd.getpwnam("postgres").pw_uid
        self._folder.mkdir(parents=True)
        os.chown(self._folder, self._user, -1)
        self._environment = {"LC_ALL": "C", "PATH": f"{self._binaries}:{os.environ['PATH']}"}

    def primary(self) -> Program:
        """Make the database if there is none, and prepare the server."""
        if not self._data.exists():
            options = ("-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
            self._run("initdb", "-D", str(self._data), *options)
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write(_LINKS)
        return self._program("postgres", "-D", str(self._data), *self._options())

    def replica(self, primary: "Postgres") -> Program:
        """Prepare a replica, which copies the primary into its emptied folder."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir()
        os.chown(self._data, self._user, -1)
        self._data.chmod(0o700)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        os.chown(password, self._user, -1)
        self._environment |= {
            "PGDATA": str(self._data),
            "PRIMARY": primary.host.address,
            "PASSWORD_FILE": str(password),
            "PASSWORDS": str(self._folder / "pgpass"),
            "CONFIG": str(self._shipped("postgresql.conf")),
            "OPTIONS": " ".join(self._options()[2:]),
        }
        return self._program("sh", str(self._shipped("start-replica.sh")))

    def allow_replica(self) -> None:
        """Make the role of a replica, as the shipped script does, where missing."""
        self.ask(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replicator') THEN "
            "CREATE ROLE replicator LOGIN REPLICATION; END IF; END $$"
        )

    def promote(self) -> None:
        """Make a replica the primary, as an operator does."""
        self.ask("SELECT pg_promote()")

    def has_replica(self) -> bool:
        """Whether a replica receives everything at this moment."""
        return "streaming" in self.ask("SELECT state FROM pg_stat_replication")

    def wait_for_replica(self) -> None:
        """Acknowledge from now on only what a replica has on its disk, too; see docs/compose.md."""
        self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.ask("SELECT pg_reload_conf()")
        # commits wait once the checkpointer has read it, which may be later than sync_state says
        self.ask("CHECKPOINT")
        # waits itself, and with it all that was acknowledged before
        self.ask("SELECT pg_logical_emit_message(true, 'aurum', 'synchronous')")

    def waits_for_replica(self) -> bool:
        """Whether a replica confirms each transaction before it is acknowledged."""
        return "sync" in self.ask("SELECT sync_state FROM pg_stat_replication").split()

    def ask(self, statement: str) -> str:
        """Run a statement and return what it prints."""
        return self._run(
            "psql", "-qAtX", "-h", self.host.address, "-U", "postgres", "-c", statement
        )

    def _shipped(self, name: str) -> Path:
        """Return a copy of a shipped file: PostgreSQL's user cannot read every checkout."""
        copy = self._folder / name
        shutil.copyfile(_DEPLOYED / "postgres" / name, copy)
        copy.chmod(0o644)
        return copy

    def _options(self) -> list[str]:
        """Return the options of the server: the shipped configuration, and little memory."""
        # the first two are what `start-replica.sh` sets itself
        small = ("-c", "shared_buffers=32MB", "-c", f"unix_socket_directories={self._folder}")
        return ["-c", f"config_file={self._shipped('postgresql.conf')}", *small]

    def _program(self, *words: str) -> Program:
        async def ready() -> bool:
            words = ("pg_isready", "-q", "-h", self.host.address, "-t", "1")
            asked = await asyncio.create_subprocess_exec(
                str(self._binaries / words[0]), *words[1:], stderr=subprocess.DEVNULL
            )
            return await asked.wait() == 0

        command = self.host.command(*words, user=self._user)
        return Program(self.host.name, command, self._environment, self._log, ready)

    def _run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [str(self._binaries / program), *words],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=self._environment,
            user=self._user,
            group=self._user,
        )
        if done.returncode:
            message = f"{program}: {done.stderr.strip()}"
            raise RuntimeError(message)
        return done.stdout


async def until(is_so: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
    """Wait until something is so; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(is_so):
        if time.monotonic() > deadline:
            message = f"{what} did not come about within {seconds:.0f} s"
            raise TimeoutError(message)
        await asyncio.sleep(0.1)

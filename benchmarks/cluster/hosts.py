"""The cluster: every part of the production stack on a host of its own."""

import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.cluster.databases import (
    PASSWORD,
    SENTINEL_PORT,
    Postgres,
    database_url,
    redis,
    redis_url,
    until,
)
from benchmarks.cluster.network import Host, make_bridge
from benchmarks.failures.objects import PORTS as OBJECT_PORTS
from benchmarks.failures.objects import object_server
from benchmarks.failures.objects import variables as object_variables
from benchmarks.failures.programs import Program, answers
from benchmarks.support.served import CHECKOUT

NUMBERS: Final[Mapping[str, int]] = {
    "nginx": 10,
    "gateway-1": 11,
    "gateway-2": 12,
    "triton-1": 21,
    "triton-2": 22,
    "worker": 31,
    "redis-1": 41,
    "redis-2": 42,
    "sentinel-1": 43,
    "sentinel-2": 44,
    "sentinel-3": 45,
    "postgres-1": 51,
    "postgres-2": 52,
    "objects": 61,
    "client": 71,
}
"""Last part of the address of each host."""
LEASE_SECONDS: Final = 6
TRITON: Final = CHECKOUT / ".aurum" / "triton"
"""The server of all runs."""
_REDIS_CLI: Final = shutil.which("redis-cli") or "redis-cli"
_NGINX_PORT: Final = 8088
_GATEWAY_PORT: Final = 8080
_TRITON_PORT: Final = 8001
_S3_PORT: Final = random.randrange(20_000, 30_000, 20)
"""Another one in each run: SeaweedFS names sockets in /tmp by its ports."""
_COLLECTIONS: Final = """
# Qdrant Edge belongs to one gateway; with a Qdrant server this is not needed
location ^~ /api/collections {
    proxy_pass http://aurum_collections;
    proxy_next_upstream error timeout http_502 http_503 non_idempotent;
}
"""


@dataclass(slots=True)
class Cluster:
    """What runs, by the name of its host."""

    folder: Path
    hosts: Mapping[str, Host]
    programs: dict[str, Program]
    databases: Mapping[str, Postgres]
    key: str = ""

    @property
    def url(self) -> str:
        """Of nginx, for everybody."""
        return f"http://{self.hosts['nginx'].address}:{_NGINX_PORT}"

    async def lose(self, name: str) -> None:
        """Kill everything on a host."""
        self.hosts[name].kill()
        await self.programs[name].kill()

    def redis_primary(self) -> str:
        """Name the host that the first Sentinel that answers takes for the primary."""
        for sentinel in ("sentinel-1", "sentinel-2", "sentinel-3"):
            words = ("sentinel", "get-master-addr-by-name", "aurum")
            done = subprocess.run(
                [_REDIS_CLI, "-h", self.hosts[sentinel].address, "-p", str(SENTINEL_PORT), *words],
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": os.environ["PATH"], "REDISCLI_AUTH": PASSWORD},
            )
            address = (done.stdout.splitlines() or [""])[0]
            for name, host in self.hosts.items():
                if host.address == address:
                    return name
        raise RuntimeError("no Sentinel names a primary")


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Cluster]:
    """Start all hosts below the folder; end everything at the end of the block."""
    make_bridge()
    hosts = {name: Host(name, number) for name, number in NUMBERS.items()}
    databases = {name: Postgres(folder, hosts[name]) for name in ("postgres-1", "postgres-2")}
    programs: dict[str, Program] = {}
    cluster = Cluster(folder, hosts, programs, databases)
    for name in ("triton-1", "triton-2"):
        programs[name] = _triton(folder, hosts[name])
    for name in ("redis-1", "redis-2"):
        programs[name] = redis(folder, hosts[name], hosts["redis-1"], "server")
    for name in ("sentinel-1", "sentinel-2", "sentinel-3"):
        programs[name] = redis(folder, hosts[name], hosts["redis-1"], "sentinel")
    programs["objects"] = _objects(folder, hosts["objects"])
    programs["postgres-1"] = databases["postgres-1"].primary()
    async with AsyncExitStack() as opened:

        async def start(*names: str) -> None:
            for name in names:
                opened.push_async_callback(_end, cluster, name)
            await asyncio.gather(*(programs[name].start() for name in names))

        tritons = asyncio.create_task(start("triton-1", "triton-2"))
        await start("redis-1", "postgres-1", "objects")
        databases["postgres-1"].allow_replica()
        programs["postgres-2"] = databases["postgres-2"].replica(databases["postgres-1"])
        await start("redis-2", "sentinel-1", "sentinel-2", "sentinel-3", "postgres-2")
        await until(databases["postgres-1"].has_replica, "replication")
        shared = folder / "keys"
        shared.mkdir()
        for name in ("gateway-1", "gateway-2", "worker"):
            programs[name] = _python(folder, hosts, name, shared)
        cluster.key = _make_key(programs["gateway-1"])
        programs["nginx"] = _nginx(folder, hosts)
        await tritons
        await start("gateway-1", "gateway-2", "worker", "nginx")
        yield cluster


async def _end(cluster: Cluster, name: str) -> None:
    await cluster.lose(name)


def _triton(folder: Path, host: Host) -> Program:
    environment = _environment(folder / host.name)
    (folder / host.name).mkdir()
    environment["AURUM_TRITON_HOST"] = host.address
    (folder / host.name / "triton").symlink_to(TRITON.resolve())
    log = folder / f"{host.name}.log"
    begun = [0]

    async def ready() -> bool:
        if b"Triton is ready" not in log.read_bytes()[begun[0] :]:
            return False
        begun[0] = log.stat().st_size
        return True

    words = (sys.executable, "-m", "tools", "serve", "triton")
    return Program(host.name, host.command(*words), environment, log, ready)


def _objects(folder: Path, host: Host) -> Program:
    others = range(_S3_PORT + 1, _S3_PORT + 1 + OBJECT_PORTS)
    return object_server(folder, _S3_PORT, others, host=host.address, within=host.command())


def _python(folder: Path, hosts: Mapping[str, Host], name: str, keys: Path) -> Program:
    """Prepare a gateway or the worker, with the keys that all of them share."""
    host, home = hosts[name], folder / name
    home.mkdir()
    (home / "keys").symlink_to(keys)
    tritons = [hosts["triton-1"].address, hosts["triton-2"].address]
    environment = _environment(home) | {
        "AURUM_HOST": host.address,
        "AURUM_PORT": str(_GATEWAY_PORT),
        "AURUM_AUTHENTICATION": "on",
        "AURUM_TRITON_GRPC_URL": f"ipv4:{','.join(f'{each}:{_TRITON_PORT}' for each in tritons)}",
        "AURUM_REDIS_URL": redis_url([hosts[f"sentinel-{number}"] for number in (1, 2, 3)]),
        "AURUM_DATABASE_URL": database_url([hosts["postgres-1"], hosts["postgres-2"]]),
        "AURUM_JOB_LEASE_SECONDS": str(LEASE_SECONDS),
        # a busy machine is no failure
        "AURUM_MAX_WAIT_SECONDS": "30",
        **object_variables(_S3_PORT, host=hosts["objects"].address),
    }
    log = folder / f"{name}.log"
    begun = [0]

    async def ready() -> bool:
        if name == "worker":
            if b"working" not in log.read_bytes()[begun[0] :]:
                return False
            begun[0] = log.stat().st_size
            return True
        ask = b"GET /api/health/ready HTTP/1.0\r\n\r\n"
        good = b"HTTP/1.0 200"
        return await answers(_GATEWAY_PORT, send_first=ask, expect=good, host=host.address)

    module = "gateway.worker" if name == "worker" else "gateway"
    command = host.command(sys.executable, "-m", module)
    return Program(name, command, environment, log, ready)


def _make_key(gateway: Program) -> str:
    """Make a key of the callers, on the host of a gateway."""
    before = gateway.command.index("-m")
    words = ("-m", "tools", "keys", "create", "--name", "callers", "--role", "admin")
    done = subprocess.run(
        [*gateway.command[:before], *words],
        capture_output=True,
        text=True,
        check=True,
        env=dict(gateway.environment),
        cwd=CHECKOUT,
    )
    return next(word for word in done.stdout.split() if word.startswith("aur_"))


def _nginx(folder: Path, hosts: Mapping[str, Host]) -> Program:
    """Prepare nginx with the shipped configuration, the gateways' addresses and one more route."""
    home, host = folder / "nginx", hosts["nginx"]
    home.mkdir()
    shutil.copytree(CHECKOUT / "deploy" / "nginx", home / "aurum")
    first = hosts["gateway-1"].address
    second = hosts["gateway-2"].address
    replaced = {
        "/tmp/": f"{home}/",  # noqa: S108 - a path in the configuration
        "aurum/server.conf;": "aurum/plain.conf;",
        "worker_processes auto": "worker_processes 1",
        "/dev/stderr": str(home / "error.log"),
        "/dev/stdout": str(home / "access.log"),
        "server 127.0.0.1:8080 ": f"server {first}:{_GATEWAY_PORT} ",
        "server 127.0.0.1:8081 ": f"server {second}:{_GATEWAY_PORT} ",
    }
    for file in (home / "aurum").iterdir():
        text = file.read_text()
        for ours, theirs in replaced.items():
            text = text.replace(ours, theirs)
        if file.name == "locations.conf":
            text += _COLLECTIONS
        if file.name == "upstreams.conf":
            # kept in the pool only as long as other requests: one server, which is never left out
            text += f"upstream aurum_collections {{\n    server {first}:8080 max_fails=0;\n"
            text += "    keepalive 64;\n}\n"
        file.write_text(text)
    for name, value in _shipped_sysctls().items():
        words = ("sysctl", "-q", "-w", f"{name}={value}")
        subprocess.run(host.command(*words), check=True, capture_output=True)
    main = home / "nginx.conf"
    shutil.move(home / "aurum" / "nginx.conf", main)
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise FileNotFoundError("nginx is not installed")

    async def ready() -> bool:
        return await answers(
            _NGINX_PORT,
            send_first=b"GET /nginx/health HTTP/1.0\r\n\r\n",
            expect=b"HTTP/1.1 204",
            host=host.address,
        )

    options = ("-p", str(home), "-c", str(main), "-g", "daemon off; master_process off;")
    log = folder / "nginx.log"
    return Program("nginx", host.command(program, *options), dict(os.environ), log, ready)


def _shipped_sysctls() -> Mapping[str, str]:
    """Return the limits of nginx's kernel in the production stack."""
    # a loader of YAML would have to know Compose's tags
    stack = (CHECKOUT / "deploy" / "compose" / "app.yml").read_text()
    return dict(re.findall(r'^ +(net\.[\w.]+): "(\d+)"$', stack, re.MULTILINE))


def _environment(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AURUM_")}
    return {**kept, "AURUM_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}

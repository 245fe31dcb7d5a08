"""What is done to the cluster: hosts are lost, links are cut, or slow and lossy."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.cluster.databases import until
from benchmarks.cluster.hosts import Cluster

AWAY_SECONDS: Final = 5.0
"""How long a part is away that has a second one."""
ALONE_SECONDS: Final = 1.0
"""How long a part is away that has none: what starts it again is on its own host."""
PROMOTED_AFTER_SECONDS: Final = 3.0
"""When the operator promotes the replica."""
SLOW_SECONDS: Final = 0.2
LOSS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to the cluster; `happen` returns once all runs again."""

    name: str
    away: str
    happen: Callable[[Cluster], Awaitable[None]]
    is_short: bool = False
    """Whether the test, which has a minute, has it too."""


def _killed(name: str, *, seconds: float = AWAY_SECONDS, is_short: bool = False) -> Fault:
    async def happen(cluster: Cluster) -> None:
        await cluster.lose(name)
        await asyncio.sleep(seconds)
        await cluster.programs[name].start()

    return Fault(f"{name} killed", f"{seconds:.0f} s", happen, is_short)


async def _redis_primary_killed(cluster: Cluster) -> None:
    name = cluster.redis_primary()
    await cluster.lose(name)
    await until(lambda: cluster.redis_primary() != name, "failover of Redis")
    await cluster.programs[name].start()


def _primary_lost(*, synchronous: bool, is_short: bool = False) -> Fault:
    """Lose the primary for good; the run is the operator who promotes the replica."""

    async def happen(cluster: Cluster) -> None:
        databases = cluster.databases
        first, second = databases["postgres-1"], databases["postgres-2"]
        if "t" in second.ask("SELECT NOT pg_is_in_recovery()"):
            first, second = second, first
        await until(first.has_replica, "replication")
        if synchronous:
            await asyncio.to_thread(first.wait_for_replica)
            await until(first.waits_for_replica, "synchronous replication")
        await cluster.lose(first.host.name)
        # it must not come back as a second primary: its folder goes before it is started again
        await asyncio.sleep(PROMOTED_AFTER_SECONDS)
        await asyncio.to_thread(second.promote)
        await asyncio.to_thread(second.allow_replica)
        cluster.programs[first.host.name] = first.replica(second)
        await cluster.programs[first.host.name].start()
        await until(second.has_replica, "replication")

    how = "synchronous" if synchronous else "asynchronous"
    name = f"PostgreSQL primary lost, {how} replica promoted"
    return Fault(name, f"{PROMOTED_AFTER_SECONDS:.0f} s", happen, is_short)


def _cut(name: str, *, seconds: float = AWAY_SECONDS) -> Fault:
    async def happen(cluster: Cluster) -> None:
        async with cluster.hosts[name].cut():
            await asyncio.sleep(seconds)

    return Fault(f"link of {name} cut", f"{seconds:.0f} s", happen)


def _spoiled(name: str, *, delay: float = 0.0, loss: float = 0.0, seconds: float = 6.0) -> Fault:
    # half of the delay in each direction
    async def happen(cluster: Cluster) -> None:
        async with cluster.hosts[name].spoiled(delay_seconds=delay / 2, loss=loss):
            await asyncio.sleep(seconds)

    what = f"{delay * 1000:.0f} ms slower" if delay else f"loses {loss:.0%}"
    return Fault(f"link of {name} {what}", f"{seconds:.0f} s", happen)


async def _nothing(_cluster: Cluster) -> None:
    await asyncio.sleep(AWAY_SECONDS)


ALL: Final[Sequence[Fault]] = (
    Fault("nothing", "-", _nothing),
    _killed("nginx", seconds=ALONE_SECONDS),
    _killed("gateway-1", seconds=ALONE_SECONDS),
    _killed("gateway-2", is_short=True),
    _killed("triton-1"),
    _killed("triton-2"),
    _killed("worker"),
    Fault("Redis primary killed", "until failover", _redis_primary_killed),
    _killed("sentinel-1"),
    _killed("objects", seconds=ALONE_SECONDS),
    _killed("postgres-1", seconds=ALONE_SECONDS),
    _killed("postgres-2"),
    _primary_lost(synchronous=True, is_short=True),
    _primary_lost(synchronous=False),
    _cut("gateway-2", seconds=20.0),
    _cut("triton-1", seconds=20.0),
    _cut("worker"),
    _cut("redis-1"),
    _cut("postgres-1"),
    _spoiled("gateway-2", delay=SLOW_SECONDS),
    _spoiled("gateway-2", loss=LOSS),
    _spoiled("triton-1", delay=SLOW_SECONDS),
    _spoiled("triton-1", loss=LOSS),
    _spoiled("postgres-1", delay=SLOW_SECONDS),
    _spoiled("postgres-1", loss=LOSS),
    _spoiled("redis-1", delay=SLOW_SECONDS),
)

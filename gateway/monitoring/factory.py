"""Monitoring of one application: made from the settings, run, stopped."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil

from gateway.collections.base import Stores
from gateway.concurrency import BackgroundTasks
from gateway.inference.base import Inference
from gateway.monitoring.drift import Distributions
from gateway.monitoring.golden_probe import NEED, GoldenProbe
from gateway.monitoring.lease import Lease, LocalLease, RedisLease
from gateway.monitoring.probes import ComponentProbes
from gateway.registry.reference import References
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics, PartMetrics
from gateway.tls_files import files_for_redis
from gateway.types import Need

_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class Watch:
    """What runs in the background, with its results."""

    parts: ComponentProbes
    portrait: GoldenProbe


def make_distributions(
    settings: Settings, references: References, metrics: Metrics
) -> Distributions:
    """Follow the faces of computed answers."""
    return Distributions(
        references,
        metrics.drift,
        window_faces=settings.drift_window_faces,
        min_faces=min(settings.drift_min_faces, settings.drift_window_faces),
        alert=settings.drift_psi_alert,
    )


@asynccontextmanager
async def open_watch(
    settings: Settings,
    inference: Inference,
    references: References,
    stores: Stores,
    metrics: Metrics,
    background: BackgroundTasks,
) -> AsyncIterator[Watch]:
    """Run the probes until the end of the block."""
    parts = ComponentProbes(
        {
            "vectors": lambda: _ask_vectors(stores, metrics.parts),
            "records": stores.records.health,
        },
        metrics.parts,
    )
    lease = make_lease(settings)
    portrait = GoldenProbe(
        inference,
        references,
        metrics.portrait,
        lease,
        firsts=settings.home / "portrait.json",
        interval_seconds=settings.portrait_interval_seconds,
        need=NEED if settings.scoring == "on" else NEED & ~Need.SCORE,
    )
    try:
        async with parts.running(background), portrait.running(background):
            yield Watch(parts, portrait)
    finally:
        await lease.close()


def make_lease(settings: Settings) -> Lease:
    """Share the lease with the other gateways of the same Triton, if Redis is configured."""
    address = settings.triton_grpc_url
    if settings.redis_url is None or address is None:
        # a Triton that this program starts has this one gateway
        return LocalLease()
    if address.startswith(_LOOPBACK):
        address = f"{socket.gethostname()}/{address}"
    url = settings.redis_url.get_secret_value()
    return RedisLease(url, f"portrait:{address}", files=files_for_redis(settings))


async def _ask_vectors(stores: Stores, metrics: PartMetrics) -> str:
    health = await stores.vectors.health()
    if health.collections is not None:
        metrics.collections.set(health.collections)
    metrics.engine_starts.set(health.engine_starts)
    metrics.engine_memory.set(_memory_bytes(health.engine_pid))
    return health.detail


def _memory_bytes(pid: int | None) -> int:
    try:
        return 0 if pid is None else int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        # it ended a moment ago
        return 0

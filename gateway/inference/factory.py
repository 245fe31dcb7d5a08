"""The engine that requests meet: Triton, and the fallback while Triton is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.concurrency import AdmissionControl, BackgroundTasks
from gateway.inference.base import FallbackEngine, Inference
from gateway.inference.failover import FailoverInference
from gateway.inference.fallback import FallbackInference
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

_FIRST_PER_THREAD: Final = 6
"""Images in the fallback before its speed is known."""


def make_fallback(settings: Settings, metrics: Metrics) -> FallbackEngine | None:
    """Make the fallback engine, which starts when it is needed; None if it is switched off."""
    if settings.fallback == "off":
        return None
    return FallbackInference(
        settings.model_repository,
        threads=settings.fallback_threads,
        log_level=settings.log_level,
        observer=metrics.fallback_starts.inc,
    )


@asynccontextmanager
async def open_failover(
    settings: Settings,
    triton: Inference,
    fallback: FallbackEngine | None,
    metrics: Metrics,
    background: BackgroundTasks,
) -> AsyncIterator[FailoverInference]:
    """Use both engines, and keep asking for Triton while it is away, until the end of the block."""
    engine = FailoverInference(
        triton,
        fallback,
        admission=AdmissionControl(
            settings.max_in_flight,
            max_wait_seconds=settings.longest_wait_seconds,
            limit_at_first=settings.fallback_threads * _FIRST_PER_THREAD,
        ),
        observer=metrics.parts.circuit("triton"),
    )
    try:
        async with background.running("triton-probe", engine.keep_probing):
            yield engine
    finally:
        await engine.close()

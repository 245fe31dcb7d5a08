"""The cache of one application: opened, refreshed in the background, closed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.cache.active_weights import ActiveWeights
from gateway.cache.analyses import AnalysisCache
from gateway.cache.memory import MemoryCache
from gateway.cache.redis import RedisCache
from gateway.circuit_breaker import CircuitBreaker
from gateway.concurrency import BackgroundTasks
from gateway.inference.base import Inference
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.tls_files import files_for_redis

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_cache(
    settings: Settings,
    inference: Inference,
    metrics: Metrics,
    background: BackgroundTasks,
    *,
    release: str,
) -> AsyncIterator[AnalysisCache | None]:
    """Open the layers; None where caching is switched off. Redis need not be there.

    Raises ConfigurationError for a URL that names no Redis.
    """
    if settings.cache == "off":
        yield None
        return
    redis = _redis(settings, metrics)
    memory_ttl_seconds = min(settings.cache_memory_ttl_seconds, settings.cache_ttl_seconds)
    active_weights = ActiveWeights(inference)
    answers = AnalysisCache(
        memory=MemoryCache(
            max_bytes=settings.cache_memory_megabytes * 1024 * 1024,
            ttl_seconds=memory_ttl_seconds if redis else settings.cache_ttl_seconds,
            on_eviction=metrics.cache_evictions.inc,
        ),
        redis=redis,
        active_weights=active_weights,
        metrics=metrics,
        release=release,
        max_entry_bytes=settings.cache_max_entry_kilobytes * 1024,
    )
    try:
        async with (
            background.running("active-weights", lambda: _keep_refreshing(active_weights)),
            background.running("cache-health", lambda: _keep_asking(answers)),
        ):
            yield answers
    finally:
        await answers.close()


def _redis(settings: Settings, metrics: Metrics) -> RedisCache | None:
    if settings.redis_url is None:
        return None
    return RedisCache(
        settings.redis_url.get_secret_value(),
        ttl_seconds=settings.cache_ttl_seconds,
        timeout_seconds=settings.cache_timeout_seconds,
        breaker=CircuitBreaker(observer=metrics.parts.circuit("redis")),
        files=files_for_redis(settings),
    )


async def _keep_refreshing(active_weights: ActiveWeights) -> None:
    while True:
        await active_weights.refresh()
        await active_weights.wait()


async def _keep_asking(answers: AnalysisCache) -> None:
    """Detect a Redis that has come back; requests do not try it."""
    known: dict[str, str | None] = {}
    while True:
        found = await answers.check()
        for layer, reason in found.items():
            if (reason is None) != (known.get(layer) is None):
                event = "cache layer answers again" if reason is None else "cache layer is away"
                log.warning(event, extra={"layer": layer, "reason": reason})
        known = found
        await asyncio.sleep(1.0)

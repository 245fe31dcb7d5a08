"""A worker in a process of its own, on any machine that reaches records, images and Triton."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar

import uvloop
from PIL import Image

from gateway.cache.factory import open_cache
from gateway.concurrency import BackgroundTasks, CpuPool
from gateway.errors import ConfigurationError
from gateway.jobs.objects.factory import open_objects
from gateway.records.encryption import load_cipher
from gateway.records.factory import open_records
from gateway.records.store import RecordStore
from gateway.release import release
from gateway.settings import Settings, load_settings
from gateway.telemetry.logs import configure_logging
from gateway.telemetry.metrics import Metrics
from gateway.worker.counted import CountedInference
from gateway.worker.factory import (
    Surroundings,
    face_operations,
    make_pipeline,
    make_worker,
    open_job_inference,
)
from gateway.worker.upstream import Insistence

T = TypeVar("T")
log = logging.getLogger("gateway.worker")

_CACHE_MEGABYTES: Final = 8
"""In memory: an image is seldom twice in a job. Redis is shared with the gateways."""
_CPU_THREADS: Final = 2
_STOP_SECONDS: Final = 1.8


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then end within two seconds, whatever hangs."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        killer = threading.Timer(_STOP_SECONDS, os._exit, (0,))
        killer.daemon = True
        killer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    gc.collect()
    gc.freeze()
    await work(settings, stop)


def main() -> int:
    """Run; returns the exit status."""
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        # the gate in front of Triton says once that it is away, not with each call
        logging.getLogger("gateway.inference.client").setLevel(logging.ERROR)
        # more pixels than Pillow likes are refused by our own limit
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        uvloop.run(run(settings))
    except ConfigurationError as error:
        sys.stderr.write(f"aurum: {error}\n")
        return 1
    return 0


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Work on jobs until `stop` is set; raises ConfigurationError for unusable settings."""
    insistence = Insistence()
    records = await until(stop, insistence.on(lambda: open_records(settings)))
    if records is None:
        return
    try:
        async with _surroundings(settings, records) as around:
            await _run(around, insistence, stop)
    finally:
        await records.close()


async def _run(around: Surroundings, insistence: Insistence, stop: asyncio.Event) -> None:
    settings = around.settings
    async with AsyncExitStack() as stack:
        engine = await open_job_inference(settings)
        stack.push_async_callback(engine.close)
        counted = CountedInference(engine)
        cache = await stack.enter_async_context(
            open_cache(
                settings.model_copy(update={"cache_memory_megabytes": _CACHE_MEGABYTES}),
                counted,
                around.metrics,
                around.background,
                release=release(),
            )
        )
        pipeline = make_pipeline(around, counted, cache)
        operations = face_operations(around, pipeline)
        probe_collections: Callable[[], Awaitable[object]] = around.records.health
        if settings.qdrant_url is not None:
            # megabytes that a worker without a Qdrant server does without
            from gateway.worker.server_enrolment import ServerEnrolment

            enrolment = await stack.enter_async_context(ServerEnrolment(around, pipeline))
            operations["enrol"] = enrolment.operation()
            probe_collections = enrolment.probe
        worker = make_worker(
            around,
            engine,
            counted,
            operations,
            name=settings.worker_name or f"{socket.gethostname()}-{os.getpid()}",
            insistence=insistence,
            probe_collections=probe_collections,
        )
        working = around.background.detach("worker", worker.run())
        stopping = asyncio.create_task(stop.wait())
        log.info("working", extra={"worker": worker.state.name, "operations": sorted(operations)})
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        worker.lane.stop()
        await working


@asynccontextmanager
async def _surroundings(settings: Settings, records: RecordStore) -> AsyncIterator[Surroundings]:
    metrics = Metrics()
    cpu_pool = CpuPool(_CPU_THREADS)
    try:
        async with BackgroundTasks() as background, open_objects(settings) as objects:
            yield Surroundings(
                settings=settings,
                records=records,
                objects=objects,
                cipher=load_cipher(settings),
                metrics=metrics,
                cpu_pool=cpu_pool,
                background=background,
            )
    finally:
        cpu_pool.close()


async def until(stop: asyncio.Event, wanted: Coroutine[object, object, T]) -> T | None:
    """Return what `wanted` returns, or None if `stop` is set first."""
    task = asyncio.ensure_future(wanted)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})

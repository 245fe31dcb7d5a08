"""The application: parts are made, opened and closed here, in one visible order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import orjson
from aiohttp import web

from gateway.api.chunks import READ_BUFFER_BYTES
from gateway.api.context import DOCUMENT, SERVICES, Services
from gateway.api.middleware import MIDDLEWARES
from gateway.api.openapi import build_document
from gateway.api.receiving import RECEIVING, Receiving, expect
from gateway.api.server import Runner
from gateway.api.table import ROUTES
from gateway.cache.factory import open_answers
from gateway.collections.base import ClosableEmbedder, NothingCached
from gateway.collections.factory import open_collections
from gateway.collections.intake import Intake
from gateway.concurrency import AdmissionControl, BackgroundTasks, CpuPool, SlowGate
from gateway.images import ImageLimits
from gateway.inference.base import Inference
from gateway.inference.embedder import TritonEmbedder
from gateway.inference.triton import TritonInference
from gateway.kserve.upstream import TritonHttp
from gateway.monitoring.factory import make_distributions, open_watch
from gateway.pipeline import Pipeline
from gateway.registry.calibration import Calibrations
from gateway.registry.reference import References
from gateway.rollout.base import CandidateInference
from gateway.rollout.report import TrialMetrics
from gateway.rollout.trials import open_trials
from gateway.rollout.triton import TritonCandidate
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

EmbedderFactory = Callable[[Settings], Awaitable[ClosableEmbedder]]
CandidateFactory = Callable[[Settings], Awaitable[CandidateInference]]
InferenceFactory = Callable[[Settings], Awaitable[Inference]]
"""Opens an engine within the running event loop."""

_NO_VERSION: Final = "0.0.0"
_GRACE_SECONDS: Final = 2.0
"""What a request in flight may take beyond its deadline when the process is stopped."""


async def open_triton(settings: Settings) -> Inference:
    """Open the engine proper."""
    return TritonInference(settings.triton_address)


async def open_triton_candidate(settings: Settings) -> CandidateInference:
    """Open the way to the version being tried."""
    return TritonCandidate(settings.triton_address)


async def open_triton_embedder(settings: Settings) -> ClosableEmbedder:
    """Open the way to the embedding stage."""
    return TritonEmbedder(settings.triton_address)


def create_app(
    settings: Settings,
    *,
    open_inference: InferenceFactory = open_triton,
    open_embedder: EmbedderFactory = open_triton_embedder,
    open_candidate: CandidateFactory = open_triton_candidate,
) -> web.Application:
    """Build the application; nothing is connected before it starts."""
    app = web.Application(middlewares=MIDDLEWARES)
    receiving = Receiving(settings)
    app[RECEIVING] = receiving
    app.on_shutdown.append(receiving.stop)
    app[DOCUMENT] = orjson.dumps(build_document(ROUTES, version=_version()))

    async def services(app: web.Application) -> AsyncIterator[None]:
        metrics = Metrics()
        background = BackgroundTasks(
            on_crash=lambda name: metrics.task_crashes.labels(name).inc(),
        )
        workers = CpuPool()
        references = References(settings.model_repository)
        distributions = make_distributions(settings, references, metrics)
        inference = await open_inference(settings)
        embedder = await open_embedder(settings)
        tried = await open_candidate(settings)
        # one queue before Triton, whatever way a request takes
        slots = AdmissionControl(
            settings.max_in_flight,
            max_wait_seconds=settings.max_wait_seconds or settings.request_timeout_seconds / 4,
        )
        slow = SlowGate(
            AdmissionControl(
                settings.max_in_flight, max_wait_seconds=settings.request_timeout_seconds / 2
            ),
            at_once=settings.max_slow_at_once,
        )
        kserve = TritonHttp(
            settings.triton_http_address,
            slots=slots,
            slow=slow,
            connections=settings.max_in_flight,
        )
        try:
            async with (
                open_answers(
                    settings, inference, metrics, background, release=_version()
                ) as answers,
                open_trials(
                    tried,
                    inference,
                    TrialMetrics(metrics.registry),
                    background,
                    timeout_seconds=settings.request_timeout_seconds,
                ) as trials,
            ):
                pipeline = Pipeline(
                    inference,
                    limits=ImageLimits(settings.max_image_bytes, settings.max_image_megapixels),
                    slots=slots,
                    slow=slow,
                    workers=workers,
                    metrics=metrics,
                    answers=answers,
                    trials=trials,
                    max_faces=settings.max_faces,
                    observe=distributions.observe,
                )
                cached = answers or NothingCached()
                async with (
                    open_collections(
                        settings, embedder, cached, metrics.parts, background
                    ) as collections,
                    open_watch(
                        settings, inference, references, collections.stores, metrics, background
                    ) as watch,
                ):
                    intake = Intake(pipeline, collections)
                    app[SERVICES] = Services(
                        settings,
                        inference,
                        pipeline,
                        workers,
                        metrics,
                        collections,
                        intake,
                        answers,
                        Calibrations(settings.model_repository),
                        trials,
                        references,
                        watch,
                        kserve,
                    )
                    yield
        finally:
            await background.close()
            await kserve.close()
            await tried.close()
            await embedder.close()
            await inference.close()
            workers.close()

    app.cleanup_ctx.append(services)
    for route in ROUTES:
        # the names of subjects may hold braces, which a path without a pattern does not match
        path = route.path.replace("{subject}", "{subject:[^/]+}")
        # HEAD is answered wherever GET is: as GET, and aiohttp leaves out the body
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            app.router.add_route(method, path, route.handler, expect_handler=expect)
    return app


def make_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Wrap the application for serving; `cleanup` lets requests in flight finish."""
    return Runner(
        app,
        access_log=None,
        # a client that hangs up gives its place to others
        handler_cancellation=True,
        # images do not shrink; what unpacks to a hundred times its size stays packed
        auto_decompress=False,
        read_bufsize=READ_BUFFER_BYTES,
        shutdown_timeout=settings.request_timeout_seconds + _GRACE_SECONDS,
    )


def _version() -> str:
    try:
        return version("aurum")
    except PackageNotFoundError:
        return _NO_VERSION

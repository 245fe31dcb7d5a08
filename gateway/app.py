"""The application: creates, opens and closes its services, in one visible order."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Final, Protocol

import orjson
from aiohttp import web

from gateway.api import answer_headers
from gateway.api.auth import Authorizer, OpenAuthorizer, Permission, public_permissions
from gateway.api.browsers import BROWSERS, Browsers
from gateway.api.chunks import READ_BUFFER_BYTES
from gateway.api.context import DOCUMENT, SERVICES, Services
from gateway.api.endpoint import endpoint
from gateway.api.in_time import HANDLERS
from gateway.api.jobs.serializers import webhook_json
from gateway.api.lifecycle import LIFECYCLE, SERVER_TLS, Lifecycle
from gateway.api.middleware import DECLARED_ROUTES, MIDDLEWARES
from gateway.api.openapi import build_document
from gateway.api.receiving import RECEIVING, Receiving, expect
from gateway.api.route import Route
from gateway.api.server import Runner
from gateway.api.streams import STREAMS, Streams
from gateway.api.table import ROUTES
from gateway.cache.factory import open_cache
from gateway.collections.base import ClosableEmbedder, NothingCached
from gateway.collections.factory import open_collections
from gateway.collections.intake import Intake
from gateway.concurrency import AdmissionControl, BackgroundTasks, CpuPool, SlowGate
from gateway.grpc.factory import open_grpc
from gateway.images import ImageLimits
from gateway.inference.base import FallbackEngine, Inference
from gateway.inference.embedder import TritonEmbedder
from gateway.inference.factory import make_fallback, open_failover
from gateway.inference.triton import TritonInference
from gateway.jobs.factory import open_jobs
from gateway.jobs.objects.erasures import open_register
from gateway.jobs.uploads import Uploads
from gateway.kserve.upstream import TritonHttp
from gateway.monitoring.audit_watch import watch_audit
from gateway.monitoring.certificates import watch_certificates
from gateway.monitoring.factory import make_distributions, open_watch
from gateway.outbound.images import ImageFetcher, Observer, open_image_fetcher
from gateway.pipeline import Pipeline
from gateway.registry.calibration import Calibrations
from gateway.registry.reference import References
from gateway.release import release
from gateway.rollout.base import CandidateInference
from gateway.rollout.candidate_engine import TritonCandidate
from gateway.rollout.trial_metrics import TrialMetrics
from gateway.rollout.trials import open_trials
from gateway.security.factory import open_access
from gateway.security.limits.factory import open_limits
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.thresholds import Thresholds
from gateway.tls_files import files_for_triton, open_server_tls
from gateway.worker.counted import JobInference
from gateway.worker.factory import Surroundings, open_job_inference
from gateway.worker.gateway_worker import run_enrol_worker

EmbedderFactory = Callable[[Settings], Awaitable[ClosableEmbedder]]
CandidateFactory = Callable[[Settings], Awaitable[CandidateInference]]
InferenceFactory = Callable[[Settings], Awaitable[Inference]]
"""Opens a client within the running event loop."""
FallbackFactory = Callable[[Settings, Metrics], FallbackEngine | None]
JobInferenceFactory = Callable[[Settings], Awaitable[JobInference]]


class FetcherFactory(Protocol):
    """Opens what fetches images from URLs, until the end of the block."""

    def __call__(
        self, settings: Settings, *, observer: Observer
    ) -> AbstractAsyncContextManager[ImageFetcher]:
        """Open it; `observer` hears of each outcome."""
        ...


_GRACE_SECONDS: Final = 2.0
"""Time beyond its deadline that a request in flight has when the process stops."""


async def open_triton(settings: Settings) -> Inference:
    """Open the client of the ensembles."""
    return TritonInference(settings.triton_address, files=files_for_triton(settings))


async def open_triton_candidate(settings: Settings) -> CandidateInference:
    """Open the client of the version on trial."""
    return TritonCandidate(settings.triton_address, files=files_for_triton(settings))


async def open_triton_embedder(settings: Settings) -> ClosableEmbedder:
    """Open the client of the embedding stage."""
    return TritonEmbedder(settings.triton_address, files=files_for_triton(settings))


@cache
def _document(version: str, public: frozenset[Permission], *, key_is_optional: bool) -> bytes:
    """Describe the routes, once in a process: of what a start takes, it is the most."""
    return orjson.dumps(
        build_document(ROUTES, version=version, public=public, key_is_optional=key_is_optional)
    )


def create_app(
    settings: Settings,
    *,
    open_inference: InferenceFactory = open_triton,
    open_embedder: EmbedderFactory = open_triton_embedder,
    open_candidate: CandidateFactory = open_triton_candidate,
    open_fallback: FallbackFactory = make_fallback,
    open_job_engine: JobInferenceFactory = open_job_inference,
    open_fetcher: FetcherFactory = open_image_fetcher,
    authorizer: Authorizer | None = None,
) -> web.Application:
    """Build the application; it connects to nothing before it starts.

    authorizer: decides who may call which route, instead of what the settings say.

    Raises ConfigurationError for origins or host names that are none.
    """
    app = web.Application(middlewares=MIDDLEWARES)
    browsers = Browsers.from_settings(settings)
    app[BROWSERS] = browsers
    app.on_response_prepare.append(answer_headers.add_headers)

    async def let_pages_read(request: web.Request, response: web.StreamResponse) -> None:
        browsers.add_headers(request, response)

    app.on_response_prepare.append(let_pages_read)
    lifecycle = Lifecycle()
    app[LIFECYCLE] = lifecycle
    receiving = Receiving(settings)
    app[RECEIVING] = receiving
    handlers = BackgroundTasks()
    app[HANDLERS] = handlers
    streams = Streams()
    app[STREAMS] = streams
    tls = open_server_tls(settings)
    if tls is not None:
        app[SERVER_TLS] = tls
    app.on_shutdown.extend((receiving.stop, streams.stop, lifecycle.end))
    app[DOCUMENT] = _document(
        release(), public_permissions(settings), key_is_optional=settings.authentication != "on"
    )

    async def services(app: web.Application) -> AsyncIterator[None]:
        metrics = Metrics()
        background = BackgroundTasks(
            on_crash=lambda name: metrics.task_crashes.labels(name).inc(),
        )
        cpu_pool = CpuPool()
        references = References(settings.model_repository)
        distributions = make_distributions(settings, references, metrics)
        triton = await open_inference(settings)
        embedder = await open_embedder(settings)
        tried = await open_candidate(settings)
        # one queue in front of Triton, for all kinds of requests
        admission = AdmissionControl(
            settings.max_in_flight,
            max_wait_seconds=settings.longest_wait_seconds,
        )
        slow = SlowGate(
            AdmissionControl(
                settings.max_in_flight, max_wait_seconds=settings.request_timeout_seconds / 2
            ),
            at_once=settings.max_slow_at_once,
        )
        kserve = TritonHttp(
            settings.triton_http_address,
            admission=admission,
            slow=slow,
            connections=settings.max_in_flight,
            files=files_for_triton(settings),
        )
        try:
            async with (
                open_failover(
                    settings, triton, open_fallback(settings, metrics), metrics, background
                ) as inference,
                open_cache(settings, inference, metrics, background, release=release()) as cache,
                open_trials(
                    tried,
                    triton,
                    TrialMetrics(metrics.registry),
                    background,
                    timeout_seconds=settings.request_timeout_seconds,
                ) as trials,
            ):
                pipeline = Pipeline(
                    inference,
                    limits=ImageLimits(settings.max_image_bytes, settings.max_image_megapixels),
                    admission=admission,
                    slow=slow,
                    cpu_pool=cpu_pool,
                    metrics=metrics,
                    cache=cache,
                    trials=trials,
                    max_faces=settings.max_faces,
                    observe=distributions.observe,
                )
                async with (
                    open_collections(
                        settings,
                        embedder,
                        cache or NothingCached(),
                        metrics.parts,
                        background,
                        observer=lifecycle.note_waiting,
                    ) as collections,
                    open_watch(
                        settings, triton, references, collections.stores, metrics, background
                    ) as watch,
                    watch_audit(settings, collections.stores.records.audit, background),
                    open_access(
                        settings,
                        collections.stores.records,
                        background,
                        open_register(settings),
                    ) as access,
                    open_limits(settings, metrics, background) as limits,
                    open_fetcher(settings, observer=metrics.outbound.note_image) as fetcher,
                    open_jobs(
                        settings,
                        collections.stores.records,
                        background,
                        metrics.jobs,
                        write=webhook_json,
                    ) as jobs,
                    run_enrol_worker(
                        Surroundings(
                            settings=settings,
                            records=jobs.records,
                            objects=jobs.objects,
                            cipher=jobs.cipher,
                            metrics=metrics,
                            cpu_pool=cpu_pool,
                            background=background,
                        ),
                        collections,
                        open_job_engine,
                    ),
                ):
                    collections.forgetting.drop_objects = jobs.objects.delete
                    collections.forgetting.register = open_register(settings)
                    calibrations = Calibrations(settings.model_repository)
                    app[SERVICES] = Services(
                        settings=settings,
                        inference=inference,
                        pipeline=pipeline,
                        cpu_pool=cpu_pool,
                        metrics=metrics,
                        collections=collections,
                        intake=Intake(pipeline, collections),
                        cache=cache,
                        calibrations=calibrations,
                        thresholds=Thresholds(calibrations, default=settings.match_threshold),
                        trials=trials,
                        references=references,
                        watch=watch,
                        kserve=kserve,
                        authorizer=authorizer or access.authorizer or OpenAuthorizer(),
                        access=access,
                        limits=limits,
                        jobs=jobs,
                        uploads=Uploads(
                            settings,
                            jobs.records.jobs,
                            jobs.objects,
                            background,
                            fetcher,
                            receiving,
                        ),
                        fetcher=fetcher,
                    )
                    async with (
                        background.running(
                            "certificates", lambda: watch_certificates(settings, metrics.tls)
                        ),
                        open_grpc(app, admission, slow, background, tls, limits),
                    ):
                        yield
                    # requests that were given up may still be undoing what they had begun
                    await handlers.settle(seconds=_GRACE_SECONDS)
                    await handlers.close()
        finally:
            await background.close()
            await kserve.close()
            await tried.close()
            await embedder.close()
            cpu_pool.close()

    app.cleanup_ctx.append(services)
    declared: dict[web.AbstractRoute, Route] = {}
    for route in ROUTES:
        # the names of subjects may contain braces, which a path without a pattern does not match
        path = route.path.replace("{subject}", "{subject:[^/]+}")
        handler = endpoint(route)
        # every path with GET answers HEAD, too: aiohttp leaves out the body
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            matched = app.router.add_route(method, path, handler, expect_handler=expect)
            declared[matched] = route
    app[DECLARED_ROUTES] = declared
    return app


def make_runner(app: web.Application, settings: Settings) -> web.AppRunner:
    """Wrap the application for serving; `cleanup` waits for requests in flight."""
    return Runner(
        app,
        access_log=None,
        # a client that hangs up frees its slot
        handler_cancellation=True,
        # images do not compress; a body that unpacks to a hundred times its size stays packed
        auto_decompress=False,
        read_bufsize=READ_BUFFER_BYTES,
        head_timeout_seconds=settings.head_timeout_seconds,
        shutdown_timeout=settings.request_timeout_seconds + _GRACE_SECONDS,
    )

"""The routes of health and metrics."""

from typing import Final

from gateway.api.auth import Permission
from gateway.api.health import routes
from gateway.api.health.schemas import LiveOut, ReadyOut
from gateway.api.route import Route

HEALTH_ROUTES: Final = (
    Route(
        method="GET",
        path="/api/health/live",
        handler=routes.live,
        permission=Permission.PUBLIC,
        tag="health",
        summary="Check liveness",
        description="200 while the process answers; checks nothing else.",
        responses={200: LiveOut},
        errors=("invalid_request",),
    ),
    Route(
        method="GET",
        path="/api/health/ready",
        handler=routes.ready,
        permission=Permission.PUBLIC,
        tag="health",
        summary="Check readiness",
        description="Lists the components and whether each is ready, and of each stage the "
        "version that answers and all versions that the inference server knows. A component that "
        "finding faces does not need (cache, vectors, records, portrait) is at worst `degraded`, "
        "and the service stays ready. While Triton is away and the fallback engine answers, the "
        "service is `degraded`, with status 200. While authentication is `on`, a caller without a "
        "key gets no `detail` and no version.",
        responses={200: ReadyOut, 503: ReadyOut},
        errors=("invalid_request",),
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=routes.metrics,
        permission=Permission.METRICS,
        tag="health",
        summary="Export metrics",
        description="In Prometheus' text format. `AURUM_METRICS_ACCESS=public` asks for no key.",
        responses={200: None},
        options=None,
        media="text/plain",
    ),
)

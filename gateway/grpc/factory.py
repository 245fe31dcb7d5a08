"""Opens the gateway's gRPC, if the settings ask for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.api.context import SERVICES
from gateway.api.lifecycle import LIFECYCLE
from gateway.concurrency import AdmissionControl, BackgroundTasks, SlowGate
from gateway.grpc.call import GrpcServices
from gateway.grpc.limiting import Limiter, NoLimits
from gateway.grpc.server import serve_grpc
from gateway.kserve.grpc_upstream import TritonGrpc
from gateway.tls import ServerTls
from gateway.tls_files import files_for_triton


@asynccontextmanager
async def open_grpc(
    app: web.Application,
    admission: AdmissionControl,
    slow: SlowGate,
    background: BackgroundTasks,
    tls: ServerTls | None,
    limiter: Limiter | None = None,
) -> AsyncIterator[None]:
    """Serve gRPC with the services of the app until the end of the block.

    admission, slow: of all requests. limiter: of callers; None admits everything.

    Raises ConfigurationError for a port or a file that cannot be used.
    """
    services = app[SERVICES]
    settings = services.settings
    if settings.grpc_port is None:
        yield
        return
    triton = TritonGrpc(
        settings.triton_address, admission=admission, slow=slow, files=files_for_triton(settings)
    )
    try:
        given = GrpcServices(
            settings=settings,
            authorizer=services.authorizer,
            limiter=limiter or NoLimits(),
            quotas=services.collections.quotas,
            cpu_pool=services.cpu_pool,
            triton=triton,
            metrics=services.metrics,
            lifecycle=app[LIFECYCLE],
        )
        async with serve_grpc(settings, given, tls, background):
            yield
    finally:
        await triton.close()

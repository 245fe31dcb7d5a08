"""Liveness, readiness and metrics."""

from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.api.auth import Permission
from gateway.api.call import Answer, Call
from gateway.api.health.schemas import LiveOut, ReadyOut
from gateway.api.health.serializers import ready_out, without_details
from gateway.api.lifecycle import LIFECYCLE, stopping_out
from gateway.api.shapes import NoOptions
from gateway.deadline import Deadline
from gateway.errors import AurumError

_PATIENCE_SECONDS: Final = 2.0
"""How long readiness waits for Triton: probes come every few seconds."""
_RETRY_AFTER_SECONDS: Final = 2


async def live(call: Call[NoOptions, NoOptions]) -> Answer:
    """Answer."""
    return Answer(LiveOut(status="live"))


async def ready(call: Call[NoOptions, NoOptions]) -> Answer:
    """List every component and whether it is ready."""
    if call.request.app[LIFECYCLE].stopping:
        return _unready(stopping_out())
    services = call.services
    cache = None if services.cache is None else services.cache.last_health
    status = await services.inference.status(deadline=Deadline.after(_PATIENCE_SECONDS))
    shape = ready_out(status, cache, services.watch)
    if not await _may_see_details(call):
        shape = without_details(shape)
    if shape.status in ("ready", "degraded"):
        return Answer(shape)
    return _unready(shape)


async def metrics(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Export the metrics."""
    text = call.services.metrics.text()
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _may_see_details(call: Call[NoOptions, NoOptions]) -> bool:
    """Whether the caller has a key of any role, or nobody is asked for one."""
    services = call.services
    if services.settings.authentication != "on":
        return True
    try:
        await services.authorizer.authorize(call.request.headers, Permission.METRICS)
    except AurumError:
        # readiness is public: it answers also without a key, or when keys cannot be looked up
        return False
    return True


def _unready(shape: ReadyOut) -> Answer:
    return Answer(shape, status=503, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)})

"""Is it alive, is it ready, how does it do."""

from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.api.context import json_answer, read_options, services_of
from gateway.api.health.schemas import LiveOut
from gateway.api.health.serializers import ready_out
from gateway.api.shapes import NoOptions
from gateway.deadline import Deadline

_PATIENCE_SECONDS: Final = 2.0
"""How long readiness waits for Triton: probes come every few seconds."""
_RETRY_AFTER_SECONDS: Final = 2


async def live(request: web.Request) -> web.Response:
    """Answer."""
    read_options(request, NoOptions)
    return json_answer(LiveOut(status="live"))


async def ready(request: web.Request) -> web.Response:
    """Name every part and whether it is ready."""
    read_options(request, NoOptions)
    deadline = Deadline.after(_PATIENCE_SECONDS)
    services = services_of(request)
    cache = None if services.answers is None else services.answers.last_health
    status = await services.inference.status(deadline=deadline)
    answer = ready_out(status, cache, services.watch)
    if answer.status == "ready":
        return json_answer(answer)
    response = json_answer(answer, status=503)
    response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    return response


async def metrics(request: web.Request) -> web.Response:
    """Show the metrics."""
    text = services_of(request).metrics.text()
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

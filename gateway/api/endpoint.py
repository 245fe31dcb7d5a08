"""From the declaration of a route to what aiohttp calls: checks the request, runs the handler."""

from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.api.body import Body, BodySpec, read_body
from gateway.api.call import Answer, Call
from gateway.api.context import Handler, context_of, read_options, services_of
from gateway.api.idempotency import answer_once
from gateway.api.in_time import in_time
from gateway.api.remote_images import with_fetched_images
from gateway.api.route import Route
from gateway.api.shapes import NoOptions

_NO_BODY: Final = Body(NoOptions(), (), frozenset())


def endpoint(route: Route) -> Handler:
    """Make the aiohttp handler of a route."""

    async def answer(request: web.Request) -> web.StreamResponse:
        call = await _receive(route, request)
        work = _work(route, call)
        outcome = await (work if route.own_time else in_time(request, work))
        return outcome.response() if isinstance(outcome, Answer) else outcome

    return answer


async def _work(route: Route, call: Call[Any, Any]) -> Answer | web.StreamResponse:
    work = partial(_handle, route, call)
    if route.idempotency is None:
        return await work()
    return await answer_once(call, route.idempotency, work)


async def _handle(route: Route, call: Call[Any, Any]) -> Answer | web.StreamResponse:
    # only now: an answer that is given again needs no image
    if isinstance(route.fields, BodySpec):
        call = await with_fetched_images(call, route.fields)
    return await route.handler(call)


async def _receive(route: Route, request: web.Request) -> Call[Any, Any]:
    """Read query and body; raises as `read_options` and `read_body`."""
    spec = route.fields
    # without required images the fields of the body may come in the query, too
    reads_query = isinstance(spec, BodySpec) and not spec.required
    options = route.options or NoOptions
    call: Call[Any, Any] = Call(
        request=request,
        context=context_of(request),
        services=services_of(request),
        options=(
            options()
            if reads_query or route.options is None
            else read_options(request, route.options)
        ),
        body=(
            await read_body(request, spec, spec.shape) if isinstance(spec, BodySpec) else _NO_BODY
        ),
    )
    quotas = call.services.collections.quotas
    await quotas.charge_images(call.caller.tenant, len(call.body.sources))
    return call

"""From the declaration of a route to what aiohttp calls: checks the request, runs the handler."""

from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.api.audit import audited
from gateway.api.body import Body, BodySpec, read_body
from gateway.api.call import Answer, Call
from gateway.api.context import Handler, context_of, read_options, services_of
from gateway.api.idempotency import answer_once
from gateway.api.in_time import in_time
from gateway.api.rate_limit import charge_images, charge_pixels, takes_images
from gateway.api.remote_images import with_fetched_images
from gateway.api.route import Route
from gateway.api.shapes import NoOptions

_NO_BODY: Final = Body(NoOptions(), (), frozenset())


def endpoint(route: Route) -> Handler:
    """Make the aiohttp handler of a route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await audited(request, route.audit, partial(answer, request))

    async def answer(request: web.Request) -> web.StreamResponse:
        if takes_images(route):
            # a quota that is used up costs no body
            quotas = services_of(request).collections.quotas
            await quotas.check_images(context_of(request).caller.tenant)
        call = await _receive(route, request)
        work = _work(route, call)
        outcome = await (work if route.own_time else in_time(request, work))
        return outcome.response() if isinstance(outcome, Answer) else outcome

    return handle


async def _work(route: Route, call: Call[Any, Any]) -> Answer | web.StreamResponse:
    if route.idempotency is None:
        return await _handle(route, call)
    return await answer_once(call, route.idempotency, partial(_handle, route))


async def _handle(route: Route, call: Call[Any, Any]) -> Answer | web.StreamResponse:
    # only now: an answer that is given again needs no image
    if isinstance(route.fields, BodySpec):
        sent = call.body.images
        call = await with_fetched_images(call, route.fields)
        await charge_pixels(call, [each for each in call.body.images if each not in sent])
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
    if call.body.sources:
        call.context.notes.counts["images"] = len(call.body.sources)
    await charge_images(call)
    return call

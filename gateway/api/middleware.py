"""What surrounds every handler, outermost first: context, log and metrics, problems, caller."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.api.audit import note_refusal
from gateway.api.auth import ANONYMOUS_CALLER, public_permissions
from gateway.api.browsers import BROWSERS
from gateway.api.context import (
    CONTEXT,
    REQUEST_ID_HEADER,
    Handler,
    RequestContext,
    context_of,
    is_request_id,
    services_of,
)
from gateway.api.lifecycle import LIFECYCLE
from gateway.api.problems import CODE, is_kserve, problem
from gateway.api.rate_limit import fields_of, within_limits
from gateway.api.receiving import abandon, awaits_continue
from gateway.api.route import Route
from gateway.collections.base import no_collection
from gateway.errors import (
    AurumError,
    ForbiddenError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
)
from gateway.kserve.public_models import NOT_OFFERED
from gateway.types import Caller

log = logging.getLogger(__name__)
access_log = logging.getLogger("gateway.access")

COLLECTION_PATH: Final = "/api/collections/{name}"
_NO_ROUTE: Final = "there is no such route"
_PEOPLE: Final = re.compile(r"(/subjects/).+", re.DOTALL)
_CLIENT_GONE: Final = 499
"""Status of a request whose client hung up, in logs and metrics only (nginx's number for it)."""
DECLARED_ROUTES: Final = web.AppKey("routes", dict[web.AbstractRoute, Route])
"""The declarations of the routes, by the routes that aiohttp matches."""


@web.middleware
async def give_context(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Attach id and deadline to the request, and its id to the answer."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[CONTEXT] = RequestContext.begin(
        given if is_request_id(given) else uuid.uuid4().hex,
        timeout_seconds=services_of(request).settings.request_timeout_seconds,
    )
    response = await handler(request)
    if awaits_continue(request):
        # the body was never asked for and may come or not, so the connection ends here
        response.force_close()
        abandon(request)
    if request.app[LIFECYCLE].stopping:
        # the next request of this client shall go elsewhere
        response.force_close()
    response.headers[REQUEST_ID_HEADER] = context_of(request).request_id
    response.headers.update(fields_of(request))
    return response


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log and count each request, also one whose client hung up."""
    metrics = services_of(request).metrics
    status, code, size = _CLIENT_GONE, "client_gone", 0
    metrics.in_flight.inc()
    try:
        response = await handler(request)
        status, code = response.status, response.get(CODE, "")
        size = response.body_length if response.prepared else _size(response)
    finally:
        metrics.in_flight.dec()
        _record(request, status=status, code=code, size=size)
    return response


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer errors as problem details; of unexpected ones clients see the request id only."""
    try:
        request.app[BROWSERS].check_host(request)
        _refuse_bad_target(request)
        return await handler(request)
    except AurumError as error:
        return problem(request, error)
    except web.HTTPNotFound:
        detail = NOT_OFFERED if is_kserve(request) else _NO_ROUTE
        return problem(request, NotFoundError(detail))
    except web.HTTPMethodNotAllowed as error:
        return _answer_method(request, error.allowed_methods)
    except web.RequestPayloadError:
        return problem(request, InvalidRequestError("the body is not well-formed HTTP"))
    except ConnectionError:
        # the client hung up while its body was being read: nobody waits for an answer
        raise asyncio.CancelledError from None
    except Exception:
        log.exception("unexpected", extra={"request_id": context_of(request).request_id})
        return problem(request, AurumError("unexpected error; the log has its request id"))


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Resolve the caller by the permission of the route, and check its limits.

    Both need the head of the request only: no byte of its body is read before.
    """
    route = request.app[DECLARED_ROUTES].get(request.match_info.route)
    # no route: the handler of aiohttp answers 404 or 405
    if route is not None:
        context, services = context_of(request), services_of(request)
        request.app[BROWSERS].check_page(request, route.permission)
        if route.permission in public_permissions(services.settings):
            context.caller = ANONYMOUS_CALLER
        else:
            async with _noting_refusals(request, route):
                context.caller = await services.authorizer.authorize(
                    request.headers, route.permission
                )
            async with within_limits(request, route):
                async with _noting_refusals(request, route):
                    _hide_other_collections(request, route, context.caller)
                return await handler(request)
    return await handler(request)


@asynccontextmanager
async def _noting_refusals(request: web.Request, route: Route) -> AsyncIterator[None]:
    """Write the audit line of what is refused to a known caller."""
    try:
        yield
    except (ForbiddenError, NotFoundError) as error:
        await note_refusal(request, route.audit, error)
        raise


MIDDLEWARES: Final[tuple[Middleware, ...]] = (give_context, observe, answer_problems, authorize)
"""In the order in which a request passes them."""


def _refuse_bad_target(request: web.Request) -> None:
    """Refuse a path that no resource can have, and a query that is not text.

    Raises:
        NotFoundError: the path contains NUL, which PostgreSQL cannot even search for.
        InvalidRequestError: percent-encoded bytes in the query are not UTF-8.

    """
    if "\0" in request.path:
        raise NotFoundError(_NO_ROUTE)
    query = request.rel_url.raw_query_string
    if "%" in query:
        try:
            unquote_to_bytes(query).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError("the query is not encoded as UTF-8") from error


def _hide_other_collections(request: web.Request, route: Route, caller: Caller) -> None:
    """Refuse a collection that the caller is not limited to, as if it did not exist.

    `Stores.collection` does so, too; here it costs no body and precedes kept answers.
    """
    name = request.match_info.get("name")
    if name is not None and route.path.startswith(COLLECTION_PATH) and not caller.sees(name):
        raise NotFoundError(no_collection(name))


def _answer_method(request: web.Request, methods: Collection[str]) -> web.Response:
    """Answer OPTIONS with the methods of a path, and every other unknown method as a problem."""
    allowed = ", ".join(sorted(methods))
    if request.method == "OPTIONS":
        response = web.Response(status=204)
        request.app[BROWSERS].answer_preflight(request, response, methods)
    else:
        response = problem(request, MethodNotAllowedError(f"allowed methods: {allowed}"))
    response.headers["Allow"] = allowed
    return response


def _record(request: web.Request, *, status: int, code: str, size: int) -> None:
    context, metrics = context_of(request), services_of(request).metrics
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    now = time.monotonic()
    received_seconds = context.work_started - context.started
    metrics.requests.labels(route, request.method, str(status)).inc()
    metrics.latency.labels(route, request.method).observe(now - context.work_started)
    if request.body_exists:
        metrics.receiving.labels(route).observe(received_seconds)
    if code:
        metrics.errors.labels(code).inc()
    access_log.info(
        "request",
        extra={
            "request_id": context.request_id,
            "method": request.method,
            "route": route,
            "path": route if "subject" in request.match_info else _shown_path(request.path),
            "status": status,
            "code": code,
            "ms": round((now - context.started) * 1000, 2),
            "receiving_ms": round(received_seconds * 1000, 2),
            "bytes_in": request.content_length,
            "bytes_out": size,
            "tenant": context.caller.tenant,
            "caller": context.caller.name,
        },
    )


def _shown_path(path: str) -> str:
    """Return a path as it may stand in the log, which the name of a person may not."""
    return _PEOPLE.sub(r"\1…", path)[:200]


def _size(response: web.StreamResponse) -> int:
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, bytes) else 0

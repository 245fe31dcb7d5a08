"""What surrounds every handler, outermost first: context, log, metrics, problems."""

import asyncio
import logging
import re
import time
import uuid
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.api.context import (
    CONTEXT,
    REQUEST_ID_HEADER,
    Handler,
    RequestContext,
    context_of,
    services_of,
)
from gateway.api.receiving import abandon, awaits_continue
from gateway.errors import AurumError, InvalidRequestError, MethodNotAllowedError, NotFoundError
from gateway.kserve.public import NOT_OFFERED
from gateway.types import DEFAULT_TENANT, Caller

log = logging.getLogger(__name__)
access_log = logging.getLogger("gateway.access")

PROBLEM_TYPE: Final = "application/problem+json"
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_LOCAL_CALLER: Final = Caller(tenant=DEFAULT_TENANT, name="anonymous")
_CLIENT_GONE: Final = 499
"""Status, in logs and metrics only, of a request whose client hung up (nginx's number for it)."""
_COME_BACK: Final = frozenset({429, 503})
"""Statuses with answers that always say when to come back; others do if the error knows."""
_CODE: Final = web.ResponseKey("code", str)


@dataclass(frozen=True, slots=True)
class Problem:
    """How an error code leaves by HTTP."""

    status: int
    title: str


PROBLEMS: Final[dict[str, Problem]] = {
    "invalid_request": Problem(400, "Invalid request"),
    "unauthorized": Problem(401, "Unauthorized"),
    "forbidden": Problem(403, "Forbidden"),
    "not_found": Problem(404, "Not found"),
    "method_not_allowed": Problem(405, "Method not allowed"),
    "conflict": Problem(409, "Conflict"),
    "image_too_large": Problem(413, "Image too large"),
    "unsupported_media_type": Problem(415, "Unsupported media type"),
    "invalid_image": Problem(422, "Invalid image"),
    "no_face": Problem(422, "No face found"),
    "several_faces": Problem(422, "Several faces found"),
    "low_quality": Problem(422, "Low face quality"),
    "rate_limited": Problem(429, "Too many requests"),
    "internal": Problem(500, "Internal error"),
    "inference_unavailable": Problem(503, "Inference unavailable"),
    "jobs_unavailable": Problem(503, "Jobs unavailable"),
    "storage_unavailable": Problem(503, "Storage unavailable"),
    "timeout": Problem(504, "Timeout"),
    "insufficient_storage": Problem(507, "Insufficient storage"),
}
"""The one table from codes to HTTP (RFC 9457 problem details)."""


def identify(request: web.Request) -> Caller:
    """Say who calls. Nobody has to prove anything yet: all are one caller of one tenant."""
    return _LOCAL_CALLER


@web.middleware
async def give_context(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Attach id, caller and deadline; name the request in its answer."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    request[CONTEXT] = RequestContext.begin(
        given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex,
        identify(request),
        timeout_seconds=services_of(request).settings.request_timeout_seconds,
    )
    response = await handler(request)
    if awaits_continue(request):
        # the body was never asked for: nobody knows whether it comes, so the connection ends here
        response.force_close()
        abandon(request)
    response.headers[REQUEST_ID_HEADER] = context_of(request).request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log and count each request, also one whose client hung up."""
    metrics = services_of(request).metrics
    status, code, size = _CLIENT_GONE, "client_gone", 0
    metrics.in_flight.inc()
    try:
        response = await handler(request)
        status, code = response.status, response.get(_CODE, "")
        size = response.body_length if response.prepared else _size(response)
    finally:
        metrics.in_flight.dec()
        _record(request, status=status, code=code, size=size)
    return response


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into problem details. Nothing of an unexpected one leaves but its request id."""
    try:
        _refuse_bad_target(request)
        return await handler(request)
    except AurumError as error:
        return problem(request, error)
    except web.HTTPNotFound:
        detail = NOT_OFFERED if _is_kserve(request) else "there is no such route"
        return problem(request, NotFoundError(detail))
    except web.HTTPMethodNotAllowed as error:
        return _answer_method(request, ", ".join(sorted(error.allowed_methods)))
    except web.RequestPayloadError:
        return problem(request, InvalidRequestError("the body is no well-formed HTTP"))
    except ConnectionError:
        # the client hung up while its body was being read: nobody is left to be answered
        raise asyncio.CancelledError from None
    except Exception:
        log.exception("unexpected", extra={"request_id": context_of(request).request_id})
        return problem(request, AurumError("an unexpected error; its request id is in the log"))


MIDDLEWARES: Final[tuple[Middleware, ...]] = (give_context, observe, answer_problems)
"""In the order in which a request passes them."""


def problem(request: web.Request, error: AurumError) -> web.Response:
    """Write an error of a request as problem details."""
    return write_problem(
        error, request_id=context_of(request).request_id, for_kserve=_is_kserve(request)
    )


def write_problem(error: AurumError, *, request_id: str, for_kserve: bool = False) -> web.Response:
    """Write an error as problem details; clients of KServe v2 read its member `error`."""
    known = PROBLEMS[error.code]
    # it may quote a header that is no text
    detail = error.detail.encode("utf-8", "replace").decode()
    body = {
        "type": f"urn:aurum:problem:{error.code}",
        "title": known.title,
        "status": known.status,
        "detail": detail,
        "code": error.code,
        "request_id": request_id,
    }
    if for_kserve:
        body["error"] = detail
    response = web.Response(body=orjson.dumps(body), status=known.status, content_type=PROBLEM_TYPE)
    if known.status in _COME_BACK or error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds or 1)
    response[_CODE] = error.code
    return response


def _refuse_bad_target(request: web.Request) -> None:
    """Refuse a path that no name can have, and a query that is no text.

    Raises:
        NotFoundError: NUL in the path: PostgreSQL cannot even look for it.
        InvalidRequestError: percent-encoded bytes in the query that are no UTF-8.

    """
    if "\0" in request.path:
        raise NotFoundError("there is no such route")
    query = request.rel_url.raw_query_string
    if "%" in query:
        try:
            unquote_to_bytes(query).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError("the query is not encoded as UTF-8") from error


def _answer_method(request: web.Request, allowed: str) -> web.Response:
    """Answer a method that the path does not have: OPTIONS asks for those that it has."""
    if request.method == "OPTIONS":
        response = web.Response(status=204)
    else:
        response = problem(request, MethodNotAllowedError(f"allowed: {allowed}"))
    response.headers["Allow"] = allowed
    return response


def _is_kserve(request: web.Request) -> bool:
    return request.path == "/v2" or request.path.startswith("/v2/")


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
            "path": request.path[:200],
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


def _size(response: web.StreamResponse) -> int:
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, bytes) else 0

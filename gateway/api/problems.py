"""Errors as HTTP problem details (RFC 9457): the one table from codes to statuses."""

from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web

from gateway.api.context import context_of
from gateway.errors import AurumError

PROBLEM_TYPE: Final = "application/problem+json"
CODE: Final = web.ResponseKey("code", str)
"""The code of a problem, on its response."""
_ALWAYS_RETRY_AFTER: Final = frozenset({429, 503})
"""Statuses with a `Retry-After` in every answer; others have one if the error names a time."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Status and title of an error code."""

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


def is_kserve(request: web.Request) -> bool:
    """Whether the path belongs to KServe v2."""
    return request.path == "/v2" or request.path.startswith("/v2/")


def problem(request: web.Request, error: AurumError) -> web.Response:
    """Write an error of a request as problem details."""
    return write_problem(
        error, request_id=context_of(request).request_id, for_kserve=is_kserve(request)
    )


def write_problem(error: AurumError, *, request_id: str, for_kserve: bool = False) -> web.Response:
    """Write an error as problem details.

    for_kserve: repeat the detail in the member `error`, which clients of KServe v2 read.
    """
    known = PROBLEMS[error.code]
    # the detail may quote a header that is not valid text
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
    if known.status in _ALWAYS_RETRY_AFTER or error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds or 1)
    response[CODE] = error.code
    return response

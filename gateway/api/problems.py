"""Errors as HTTP problem details (RFC 9457)."""

from typing import Final

import orjson
from aiohttp import web

from gateway.api.context import context_of
from gateway.error_policy import policy_of
from gateway.errors import AurumError, RateLimitedError, UnauthorizedError

PROBLEM_TYPE: Final = "application/problem+json"
CODE: Final = web.ResponseKey("code", str)
"""The code of a problem, on its response."""
_MAX_DETAIL: Final = 1000
"""Most characters of a detail: it may quote what was sent, which may have megabytes."""
_CHALLENGE: Final = 'Bearer realm="aurum"'
_REFUSED: Final = f'{_CHALLENGE}, error="invalid_token"'


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
    policy = policy_of(error)
    # the detail may quote a header that is not valid text
    detail = error.detail[:_MAX_DETAIL].encode("utf-8", "replace").decode()
    body: dict[str, object] = {
        "type": f"urn:aurum:problem:{error.code}",
        "title": policy.title,
        "status": policy.status,
        "detail": detail,
        "code": error.code,
        "request_id": request_id,
    }
    if for_kserve:
        body["error"] = detail
    if isinstance(error, RateLimitedError) and error.policies:
        body["violated-policies"] = list(error.policies)
    response = web.Response(
        body=orjson.dumps(body), status=policy.status, content_type=PROBLEM_TYPE
    )
    if policy.retry_after == "always" or error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds or 1)
    if isinstance(error, UnauthorizedError):
        response.headers["WWW-Authenticate"] = _REFUSED if error.refused else _CHALLENGE
    response[CODE] = error.code
    return response

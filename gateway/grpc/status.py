"""Errors as statuses of gRPC, with the stable code in the trailing metadata."""

from collections.abc import Mapping
from typing import Final

import grpc

from gateway.error_policy import policy_of
from gateway.errors import AurumError

CODE_KEY: Final = "aurum-code"
REQUEST_ID_KEY: Final = "x-request-id"
_RETRY_KEY: Final = "retry-after"
_STATUSES: Final[Mapping[int, grpc.StatusCode]] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    424: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""By the HTTP status of an error."""


def status_of(error: AurumError) -> grpc.StatusCode:
    """Return the status of an error."""
    return _STATUSES[policy_of(error).status]


def metadata_of(error: AurumError, *, request_id: str) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of an error: code, request id, when to try again."""
    found = [(CODE_KEY, error.code), (REQUEST_ID_KEY, request_id)]
    if policy_of(error).retry_after == "always" or error.retry_after_seconds is not None:
        found.append((_RETRY_KEY, str(error.retry_after_seconds or 1)))
    return tuple(found)


def text_of(error: AurumError) -> str:
    """Return the sentence for people; it may quote bytes that are not valid text."""
    return error.detail.encode("utf-8", "replace").decode()

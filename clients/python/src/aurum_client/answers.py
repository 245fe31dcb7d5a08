"""Reads answers of the service: results, refusals, and what is neither."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Optional, TypeVar

import httpx

from aurum_client.errors import (
    FAMILIES,
    AurumError,
    Problem,
    ProblemError,
    ServiceUnreachableError,
    TimeLimitError,
    UnexpectedAnswerError,
)
from aurum_client.request import Request

T = TypeVar("T")
_EXCERPT = 200


def read_answer(request: Request[T], response: httpx.Response) -> T:
    """Read a good answer.

    Raises:
        ProblemError: the service refused.
        UnexpectedAnswerError: the answer is not of this service, or of one that is incompatible.

    """
    if not (response.is_success or response.status_code in request.accepted):
        raise read_error(response)
    try:
        return request.read(response)
    except ValueError as error:
        message = f"the answer is not understood: {error}"
        raise UnexpectedAnswerError(message, response.status_code) from error


def read_error(response: httpx.Response) -> AurumError:
    """Read a refusal."""
    retry_after = read_retry_after(response.headers.get("Retry-After"))
    problem = _problem(response)
    if problem is None:
        excerpt = " ".join(response.text[:_EXCERPT].split())
        message = f"not an answer of the service: {excerpt or response.reason_phrase}"
        return UnexpectedAnswerError(message, response.status_code, retry_after)
    return FAMILIES.get(problem.code, ProblemError)(problem, retry_after)


def _problem(response: httpx.Response) -> Optional[Problem]:
    try:
        document = response.json()
    except ValueError:
        return None
    if not isinstance(document, Mapping) or not isinstance(document.get("code"), str):
        return None
    policies = document.get("violated-policies")
    return Problem(
        code=document["code"],
        status=response.status_code,
        title=str(document.get("title", "")),
        detail=str(document.get("detail", "")),
        request_id=str(document.get("request_id", "")),
        violated_policies=tuple(map(str, policies)) if isinstance(policies, list) else (),
    )


def read_retry_after(value: Optional[str]) -> Optional[float]:
    """Return the seconds of a `Retry-After` header, a number or a date; None if it is neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(int(value)))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def transport_error(error: httpx.RequestError) -> AurumError:
    """Translate an error of httpx, which depends on how far the request got."""
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectTimeout):
        return ServiceUnreachableError("no connection within the connect time limit", sent=False)
    if isinstance(error, httpx.ReadTimeout):
        return TimeLimitError("read")
    if isinstance(error, httpx.WriteTimeout):
        return TimeLimitError("write")
    if isinstance(error, (httpx.ConnectError, httpx.PoolTimeout, httpx.ProxyError)):
        return ServiceUnreachableError(f"no connection: {text}", sent=False)
    if isinstance(error, httpx.TransportError):
        return ServiceUnreachableError(f"the connection broke: {text}", sent=True)
    return UnexpectedAnswerError(f"the answer cannot be read: {text}", status=0)

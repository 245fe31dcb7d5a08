"""Everything that a call can raise; one class for each family of the service's codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


class AurumError(Exception):
    """Base of all errors of this package."""


class ServiceUnreachableError(AurumError):
    """The connection could not be made, or broke; `sent`: whether the service may have acted."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message, sent)
        self.message = message
        self.sent = sent

    def __str__(self) -> str:
        return self.message


class TimeLimitError(AurumError):
    """A time limit of this client passed: `connect`, `read`, `write` or `total`."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"the call exceeded its {self.limit} time limit"


class UnexpectedAnswerError(AurumError):
    """An answer that is not of the service, such as a proxy's page; `status` is its HTTP status."""

    def __init__(self, message: str, status: int, retry_after: Optional[float] = None) -> None:
        super().__init__(message, status, retry_after)
        self.message = message
        self.status = status
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} (status {self.status})"


@dataclass(frozen=True)
class Problem:
    """A refusal of the service, as it was sent (RFC 9457)."""

    code: str
    """Stable; meant for programs."""
    status: int
    title: str
    detail: str
    """A sentence for people."""
    request_id: str
    """Names the request in the service's log."""
    violated_policies: tuple[str, ...] = ()
    """Names of the limits of the key that the request exceeds."""


class ProblemError(AurumError):
    """The service refused the request; subclasses are families of codes."""

    def __init__(self, problem: Problem, retry_after: Optional[float] = None) -> None:
        super().__init__(problem, retry_after)
        self.problem = problem
        self.retry_after = retry_after
        """Seconds after which the service wants to be asked again, if it said so."""

    @property
    def code(self) -> str:
        """The stable code."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """A sentence for people."""
        return self.problem.detail

    @property
    def request_id(self) -> str:
        """The id of the request in the service's log."""
        return self.problem.request_id

    def __str__(self) -> str:
        return f"{self.code}: {self.detail} (request {self.request_id})"


class InvalidRequestError(ProblemError):
    """The request is malformed."""


class AuthenticationError(ProblemError):
    """The request carries no valid credentials."""


class PermissionDeniedError(ProblemError):
    """The credentials do not grant what the route needs."""


class NotFoundError(ProblemError):
    """The collection, subject, face or crop does not exist."""


class ConflictError(ProblemError):
    """The thing exists already, or its state does not allow the request."""


class EnrolmentRefusedError(ProblemError):
    """The collection does not enrol this person: its list, an erasure or a missing consent."""


class ImageError(ProblemError):
    """The image is too large, broken, or of an unsupported format."""


class FaceError(ProblemError):
    """The image shows no face, several faces where one is needed, or one of low quality."""


class RateLimitedError(ProblemError):
    """Too many requests, of this key or of all; or the images of the day are used up."""

    @property
    def violated_policies(self) -> tuple[str, ...]:
        """Names of the limits of the key that the request exceeds; empty for others."""
        return self.problem.violated_policies


class UnavailableError(ProblemError):
    """A part of the service is away or overloaded."""


class ServiceTimeoutError(ProblemError):
    """The service's own deadline passed."""


class ServerError(ProblemError):
    """The service failed, or its disk is full."""


FAMILIES: dict[str, type[ProblemError]] = {
    "invalid_request": InvalidRequestError,
    "method_not_allowed": InvalidRequestError,
    "unauthorized": AuthenticationError,
    "forbidden": PermissionDeniedError,
    "not_found": NotFoundError,
    "conflict": ConflictError,
    "enrolment_refused": EnrolmentRefusedError,
    "consent_required": EnrolmentRefusedError,
    "image_too_large": ImageError,
    "unsupported_media_type": ImageError,
    "invalid_image": ImageError,
    "image_url_refused": ImageError,
    "image_url_failed": ImageError,
    "no_face": FaceError,
    "several_faces": FaceError,
    "low_quality": FaceError,
    "rate_limited": RateLimitedError,
    "inference_unavailable": UnavailableError,
    "jobs_unavailable": UnavailableError,
    "storage_unavailable": UnavailableError,
    "timeout": ServiceTimeoutError,
    "internal": ServerError,
    "insufficient_storage": ServerError,
}
"""The class of each code; a newer service's codes are plain `ProblemError`s."""

"""The one table of errors: for each code its kind, its HTTP status, and what is done about it.

The HTTP API, the OpenAPI document, the gateway's own retries, the fallback engine and the worker
read it; `docs/errors.md` is written from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from gateway.errors import AurumError


class Kind(StrEnum):
    """What went wrong; see `KIND_MEANINGS`."""

    VALIDATION = "validation"
    PROCESSING = "processing"
    ACCESS = "access"
    STATE = "state"
    LIMIT = "limit"
    SYSTEM = "system"


KIND_MEANINGS: Final[Mapping[Kind, str]] = {
    Kind.VALIDATION: "The request or its image is wrong: the caller has to send something else.",
    Kind.PROCESSING: "The image is sound, but what it shows does not allow the answer.",
    Kind.ACCESS: "The caller is not known, or may not do this.",
    Kind.STATE: "What the request names does not exist, exists already, or does not allow this "
    "now.",
    Kind.LIMIT: "The caller sends more than it is allowed to.",
    Kind.SYSTEM: "A part of the service is away, overloaded, full or broken; nothing is wrong "
    "with the request.",
}
"""Who has to change something before the request can succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is done about an error."""

    kind: Kind
    status: int
    """HTTP status."""
    title: str
    """A few words for people."""
    retry: bool = False
    """Whether the same request may succeed later: a job tries such an image again."""
    client_retry: bool = False
    """Whether a client should send the request again by itself, after a pause."""
    fall_back: bool = False
    """Whether the fallback engine may answer instead of Triton."""
    retry_after: Literal["always", "sometimes", "never"] = "never"
    """Whether the answer has a `Retry-After`. Where it has one `sometimes`, only an answer with it
    is worth another try."""
    action: str
    """What the service does, in one sentence."""


POLICIES: Final[Mapping[str, Policy]] = {
    "invalid_request": Policy(
        kind=Kind.VALIDATION,
        status=400,
        title="Invalid request",
        action="Refuses the request before any inference; the detail names the field.",
    ),
    "unauthorized": Policy(
        kind=Kind.ACCESS,
        status=401,
        title="Unauthorized",
        action="Refuses the request before its body is read.",
    ),
    "forbidden": Policy(
        kind=Kind.ACCESS,
        status=403,
        title="Forbidden",
        action="Refuses the request before its body is read.",
    ),
    "not_found": Policy(
        kind=Kind.STATE,
        status=404,
        title="Not found",
        action="Refuses the request.",
    ),
    "method_not_allowed": Policy(
        kind=Kind.VALIDATION,
        status=405,
        title="Method not allowed",
        action="Refuses the request; `Allow` lists the methods of the path.",
    ),
    "conflict": Policy(
        kind=Kind.STATE,
        status=409,
        title="Conflict",
        retry=True,
        client_retry=True,
        retry_after="sometimes",
        action="Refuses the request. While another request with the same `Idempotency-Key` runs, "
        "the answer has a `Retry-After`.",
    ),
    "enrolment_refused": Policy(
        kind=Kind.STATE,
        status=409,
        title="Enrolment refused",
        action="Does not enrol a face that the collection's do-not-enrol list has, or that was "
        "erased after the request or job was made; nothing is stored.",
    ),
    "consent_required": Policy(
        kind=Kind.STATE,
        status=409,
        title="Consent required",
        action="Does not enrol a face whose subject has no valid consent; nothing is stored.",
    ),
    "image_too_large": Policy(
        kind=Kind.VALIDATION,
        status=413,
        title="Image too large",
        action="Refuses the image by its size or its header, before it is decoded.",
    ),
    "unsupported_media_type": Policy(
        kind=Kind.VALIDATION,
        status=415,
        title="Unsupported media type",
        action="Refuses the body or the image by its type.",
    ),
    "invalid_image": Policy(
        kind=Kind.VALIDATION,
        status=422,
        title="Invalid image",
        action="Refuses the image, which cannot be decoded; no other engine is asked.",
    ),
    "image_url_refused": Policy(
        kind=Kind.VALIDATION,
        status=422,
        title="Image URL refused",
        action="Fetches nothing: the service fetches no URLs, not from this host, or the host has "
        "no public address. A redirect is checked in the same way.",
    ),
    "image_url_failed": Policy(
        kind=Kind.VALIDATION,
        status=424,
        title="Image URL failed",
        action="Gives up fetching the image: the server does not answer in time, answers an error, "
        "or leads on too often. A client decides itself whether to ask again.",
    ),
    "no_face": Policy(
        kind=Kind.PROCESSING,
        status=422,
        title="No face found",
        action="Answers that the image shows no face; `detect` and `embed` answer an empty list.",
    ),
    "several_faces": Policy(
        kind=Kind.PROCESSING,
        status=422,
        title="Several faces found",
        action="Refuses the image where one face is asked for; nothing is stored.",
    ),
    "low_quality": Policy(
        kind=Kind.PROCESSING,
        status=422,
        title="Low face quality",
        action="Refuses the face and names the reasons; nothing is stored.",
    ),
    "rate_limited": Policy(
        kind=Kind.LIMIT,
        status=429,
        title="Too many requests",
        retry=True,
        client_retry=True,
        retry_after="always",
        action="Refuses the request before its body is read; the images of the day also after it, "
        "if it has more of them than are left. `violated-policies` names the limits of the key "
        "that refuse, which `RateLimit` describes.",
    ),
    "internal": Policy(
        kind=Kind.SYSTEM,
        status=500,
        title="Internal error",
        action="Logs the failure under the id of the request and answers that id. It would most "
        "likely fail again, so nothing is repeated.",
    ),
    "inference_unavailable": Policy(
        kind=Kind.SYSTEM,
        status=503,
        title="Inference unavailable",
        retry=True,
        client_retry=True,
        fall_back=True,
        retry_after="always",
        action="Asks Triton again, then the fallback engine, within the deadline of the request; "
        "refuses the request if neither answers, or if it would wait too long.",
    ),
    "jobs_unavailable": Policy(
        kind=Kind.SYSTEM,
        status=503,
        title="Jobs unavailable",
        retry=True,
        client_retry=True,
        retry_after="always",
        action="Refuses the request; images that were acknowledged stay in their job.",
    ),
    "storage_unavailable": Policy(
        kind=Kind.SYSTEM,
        status=503,
        title="Storage unavailable",
        retry=True,
        client_retry=True,
        retry_after="always",
        action="Refuses the request; what was not acknowledged is undone.",
    ),
    "timeout": Policy(
        kind=Kind.SYSTEM,
        status=504,
        title="Timeout",
        retry=True,
        action="Stops waiting at the deadline. A client has waited all that time already, so it "
        "decides itself whether to ask again; a job tries the image again.",
    ),
    "insufficient_storage": Policy(
        kind=Kind.SYSTEM,
        status=507,
        title="Insufficient storage",
        retry=True,
        action="Refuses to store anything until the disk has room; searches and deletions go on.",
    ),
}
"""By code."""


def policy_of(error: AurumError) -> Policy:
    """Return the row of an error's code."""
    return POLICIES[error.code]


def may_retry(error: AurumError) -> bool:
    """Whether the same request may succeed later."""
    policy = policy_of(error)
    dated = policy.retry_after != "sometimes" or error.retry_after_seconds is not None
    return policy.retry and dated


def may_fall_back(error: AurumError) -> bool:
    """Whether another engine may answer instead of the one that failed."""
    return policy_of(error).fall_back

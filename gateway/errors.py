"""The error family: each error has a stable code that clients see.

`error_policy.py` states what each code means: its kind, its HTTP status, what is done about it.
"""

from collections.abc import Sequence


class AurumError(Exception):
    """Base of all errors that a client may see: a code, a sentence, and when to retry."""

    code = "internal"

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class ConfigurationError(Exception):
    """A setting that cannot be used; its text names the variable."""


class InvalidRequestError(AurumError):
    """The request cannot be understood: a missing field, an unknown option, bad JSON."""

    code = "invalid_request"


class UnauthorizedError(AurumError):
    """The request carries no valid credentials; `refused`: it carries some that are not valid."""

    code = "unauthorized"

    def __init__(self, detail: str, *, refused: bool = True) -> None:
        super().__init__(detail)
        self.refused = refused


class ForbiddenError(AurumError):
    """The credentials do not grant what the route needs.

    known: tenant and name of the caller, for the audit log; None where the caller is known anyway.
    """

    code = "forbidden"

    def __init__(self, detail: str, *, known: tuple[str, str] | None = None) -> None:
        super().__init__(detail)
        self.known = known


class NotFoundError(AurumError):
    """The route or the resource does not exist."""

    code = "not_found"


class MethodNotAllowedError(AurumError):
    """The route exists, its method does not."""

    code = "method_not_allowed"


class ImageTooLargeError(AurumError):
    """Too many bytes or pixels."""

    code = "image_too_large"


class UnsupportedMediaTypeError(AurumError):
    """Neither a supported image format nor a supported content type."""

    code = "unsupported_media_type"


class InvalidImageError(AurumError):
    """Bytes that claim to be an image and cannot be decoded."""

    code = "invalid_image"


class ImageUrlRefusedError(AurumError):
    """A URL that is not fetched: by its form, its host, or the address of its host."""

    code = "image_url_refused"


class ImageUrlFailedError(AurumError):
    """A URL under which no image can be had."""

    code = "image_url_failed"


class NoFaceError(AurumError):
    """The photo shows no face, and the route needs one."""

    code = "no_face"


class InferenceUnavailableError(AurumError):
    """Triton does not answer, or too much is waiting for it."""

    code = "inference_unavailable"


class ConflictError(AurumError):
    """The thing exists already, or is in a state that does not allow this."""

    code = "conflict"


class ConsentRequiredError(AurumError):
    """The collection enrols nobody without a consent, and there is none that is valid."""

    code = "consent_required"


class EnrolmentRefusedError(AurumError):
    """The person is not to be enrolled: by the list of the collection, or erased meanwhile."""

    code = "enrolment_refused"


class LowQualityError(AurumError):
    """The face found is below the quality that the request requires."""

    code = "low_quality"


class SeveralFacesError(AurumError):
    """The photo shows several faces, and the route needs exactly one."""

    code = "several_faces"


class StorageUnavailableError(AurumError):
    """The vector store or the records database is unavailable; nothing was acknowledged."""

    code = "storage_unavailable"


class JobsUnavailableError(AurumError):
    """The store of uploaded images cannot be reached; no job was accepted."""

    code = "jobs_unavailable"


class RateLimitedError(AurumError):
    """The caller, or all callers together, ask for more than is served at a time.

    policies: names of the limits of the caller that are exceeded, if it is theirs.
    """

    code = "rate_limited"

    def __init__(
        self,
        detail: str,
        *,
        retry_after_seconds: int | None = None,
        policies: Sequence[str] = (),
    ) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.policies = tuple(policies)


class InsufficientStorageError(AurumError):
    """The disk is full; nothing was written. Search and deletion still work."""

    code = "insufficient_storage"


class RequestTimeoutError(AurumError):
    """The deadline of the request passed."""

    code = "timeout"

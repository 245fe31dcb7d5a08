"""Client of the Aurum face service: `AurumClient`, and `AsyncAurumClient` for asyncio."""

from aurum_client._async.client import AsyncAurumClient
from aurum_client._sync.client import AurumClient
from aurum_client._version import __version__
from aurum_client.enrolling import FaceEmbedding
from aurum_client.errors import (
    AurumError,
    AuthenticationError,
    ConflictError,
    EnrolmentRefusedError,
    FaceError,
    ImageError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    Problem,
    ProblemError,
    RateLimitedError,
    ServerError,
    ServiceTimeoutError,
    ServiceUnreachableError,
    TimeLimitError,
    UnavailableError,
    UnexpectedAnswerError,
)
from aurum_client.fallback import FaceOptions, Fallback
from aurum_client.images import ImageSource, ImageUrl
from aurum_client.limits import TimeLimits
from aurum_client.rate_limits import RateLimit
from aurum_client.results.faces import Face, FacesResult
from aurum_client.results.jobs import Job, JobEvent, JobItem
from aurum_client.retry import RetryPolicy
from aurum_client.unset import UNSET
from aurum_client.uploads import NamedImage, UploadSource, images_in
from aurum_client.waiting import Outcome

__all__ = [
    "UNSET",
    "AsyncAurumClient",
    "AurumClient",
    "AurumError",
    "AuthenticationError",
    "ConflictError",
    "EnrolmentRefusedError",
    "Face",
    "FaceEmbedding",
    "FaceError",
    "FaceOptions",
    "FacesResult",
    "Fallback",
    "ImageError",
    "ImageSource",
    "ImageUrl",
    "InvalidRequestError",
    "Job",
    "JobEvent",
    "JobItem",
    "NamedImage",
    "NotFoundError",
    "Outcome",
    "PermissionDeniedError",
    "Problem",
    "ProblemError",
    "RateLimit",
    "RateLimitedError",
    "RetryPolicy",
    "ServerError",
    "ServiceTimeoutError",
    "ServiceUnreachableError",
    "TimeLimitError",
    "TimeLimits",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UploadSource",
    "__version__",
    "images_in",
]

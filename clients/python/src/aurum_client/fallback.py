"""What answers while the service is unhealthy, and when the service is asked again."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional, Protocol

from aurum_client.errors import (
    AurumError,
    ProblemError,
    ServiceUnreachableError,
    TimeLimitError,
    UnexpectedAnswerError,
)
from aurum_client.request import Option
from aurum_client.results.faces import FacesResult

FALLBACK_ENGINE = "fallback"
"""The `engine` of results that the fallback computed."""
_UNHEALTHY_CODE = "inference_unavailable"
_BAD_GATEWAYS = (502, 503, 504)
"""Statuses of proxies that cannot reach the service."""


@dataclass(frozen=True)
class FaceOptions:
    """Options of score, detect and embed; None leaves the choice to the service."""

    include: tuple[str, ...] = ()
    """What to add to each face: `score`, `embedding`, `crop`."""
    max_faces: Optional[int] = None
    """Most faces to return, the largest."""
    min_confidence: Optional[float] = None
    """Leave out faces that the detector is less sure of, 0 to 1."""
    rotation: Optional[str] = None
    """`auto` also looks for faces in turned images; `off` does not."""
    detail: Optional[str] = None
    """`high` also looks for small faces, in tiles; takes seconds."""

    def query(self) -> Mapping[str, Option]:
        """Return them as query parameters."""
        return {
            "include": ",".join(self.include) or None,
            "max_faces": self.max_faces,
            "min_confidence": self.min_confidence,
            "rotation": self.rotation,
            "detail": self.detail,
        }


class Fallback(Protocol):
    """Anything that analyses an encoded image in this process; called from several threads.

    It raises the errors of this package, such as `ImageError` and `FaceError`.
    """

    def score(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Rate the faces; raises FaceError if there is none."""

    def detect(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Find the faces."""

    def embed(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Embed the faces."""


def run_fallback(
    fallback: Fallback, operation: str, image: bytes, options: FaceOptions
) -> FacesResult:
    """Have the fallback answer instead of the route of this name, and say so."""
    operations = {
        "score": fallback.score,
        "detect": fallback.detect,
        "embed": fallback.embed,
    }
    return replace(operations[operation](image, options), engine=FALLBACK_ENGINE)


def means_unhealthy(error: AurumError) -> bool:
    """Whether an error says that the service cannot answer now, rather than not this request."""
    if isinstance(error, ProblemError):
        return error.code == _UNHEALTHY_CODE
    if isinstance(error, UnexpectedAnswerError):
        return error.status in _BAD_GATEWAYS
    return isinstance(error, (ServiceUnreachableError, TimeLimitError))


class HealthGate:
    """Knows whether the service is used, and gives out the right to check it. Thread-safe."""

    def __init__(self, check_seconds: float) -> None:
        """Start healthy; while unhealthy, allow one check every `check_seconds`."""
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._next_check: Optional[float] = None

    @property
    def is_healthy(self) -> bool:
        """Whether calls go to the service."""
        return self._next_check is None

    def report_failure(self) -> None:
        """Use the fallback from now on."""
        with self._lock:
            self._next_check = time.monotonic() + self._check_seconds

    def report_success(self) -> None:
        """Use the service from now on."""
        with self._lock:
            self._next_check = None

    def claim_check(self) -> bool:
        """Whether the caller shall check the service now; nobody else does in the meantime."""
        with self._lock:
            now = time.monotonic()
            if self._next_check is None or now < self._next_check:
                return False
            self._next_check = now + self._check_seconds
            return True

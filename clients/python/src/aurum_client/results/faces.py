"""Faces of an image, and whether two images show one person."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright image."""


@dataclass(frozen=True)
class ImageInfo:
    """The analysed image: upright size in pixels, SHA-256 of its bytes."""

    width: int
    height: int
    sha256: str


@dataclass(frozen=True)
class Quality:
    """Quality of a face in the photo."""

    size: float
    """Shorter edge of the box in pixels."""
    sharpness: float
    """0 (blurred) to 1."""
    brightness: float
    """0 (black) to 1 (white)."""
    yaw: float
    """Degrees; positive if the nose points to the right of the image."""
    pitch: float
    """Degrees; positive if the face looks up."""
    roll: float
    """Degrees; positive if the head is tilted clockwise, after the image's `rotation`."""
    acceptable: bool
    """Whether `reasons` is empty."""
    reasons: tuple[str, ...]
    """Why the face is not acceptable."""


@dataclass(frozen=True)
class Face:
    """A face, in pixels of the upright image."""

    box: Box
    landmarks: tuple[tuple[float, float], ...]
    """Left eye, right eye, nose, left and right mouth corner, as seen in the image."""
    confidence: float
    """Confidence of the detector, 0 to 1."""
    quality: Quality
    score: Optional[float] = None
    """1 to 10; None if it was not asked for, or the scoring head does not fit the embedder."""
    embedding: Optional[tuple[float, ...]] = None
    """Unit vector, comparable within one space only; None if it was not asked for."""
    crop: Optional[str] = None
    """The aligned face as a data URI of a PNG; None if it was not asked for."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What further stages of the service add to a face, as it was sent."""

    def vector(self) -> npt.NDArray[np.float32]:
        """Return the embedding as an array, [D] float32.

        Raises:
            ImportError: NumPy is not installed (`pip install aurum-client[numpy]`).
            ValueError: there is no embedding.

        """
        if self.embedding is None:
            raise ValueError("this face has no embedding: call embed, or include it")
        try:
            import numpy as np
        except ImportError as error:
            raise ImportError("Face.vector needs NumPy: pip install aurum-client[numpy]") from error
        return np.asarray(self.embedding, dtype=np.float32)

    def crop_png(self) -> bytes:
        """Return the aligned face as a PNG; raises ValueError if there is no crop."""
        if self.crop is None:
            raise ValueError("this face has no crop: pass include=['crop']")
        return base64.b64decode(self.crop.partition(",")[2])


@dataclass(frozen=True)
class ModelVersions:
    """Versions behind an answer; None for a stage that it did not need."""

    detection: Optional[str]
    embedding: Optional[str]
    scoring: Optional[str]
    space: Optional[str]
    """Id of the embedding space."""


@dataclass(frozen=True)
class Timings:
    """Milliseconds by step; `total` includes the reception of the image by the service."""

    validate: float
    inference: float
    total: float


@dataclass(frozen=True)
class FacesResult:
    """The faces of one image, largest first."""

    request_id: str
    image: ImageInfo
    faces: tuple[Face, ...]
    faces_found: int
    """How many faces were found, with those beyond `max_faces`; none below `min_confidence`."""
    rotation: int
    """Degrees by which the image was turned clockwise to be looked at."""
    models: ModelVersions
    engine: str
    """What computed it; `fallback` if the fallback of this client did."""
    cached: bool
    took_ms: Timings
    score_range: Optional[tuple[int, int]] = None
    """Lowest and highest score; None where no scores are."""


@dataclass(frozen=True)
class Verification:
    """Whether two images show one person."""

    request_id: str
    similarity: float
    """Cosine, -1 to 1."""
    match: bool
    """Whether `similarity` >= `threshold`."""
    threshold: float
    face_a: Face
    face_b: Face
    faces_found_a: int
    faces_found_b: int
    rotation_a: int
    rotation_b: int
    image_a: ImageInfo
    image_b: ImageInfo
    models: ModelVersions
    engine: str
    cached: bool
    took_ms: Timings

"""The gateway's own types: images, faces, analyses. Frozen, without HTTP or Triton."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from triton_python_backend.contract import DEFAULT_LOOK, Look
from triton_python_backend.contract import DETECTION as _DETECTION
from triton_python_backend.contract import EMBEDDING_STAGE as _EMBEDDING
from triton_python_backend.contract import SCORING as _SCORING
from triton_python_backend.contract import Need as Need

Embedding = npt.NDArray[np.float32]
"""[D] float32, unit length."""
Crop = npt.NDArray[np.uint8]
"""[112,112,3] uint8 RGB, aligned to ArcFace's template."""

DEFAULT_TENANT: Final = "default"
"""The tenant of requests that name none."""

TRITON_ENGINE: Final = "triton"
FALLBACK_ENGINE: Final = "fallback"
"""The engine that answers while Triton is away."""

SCORE_RANGE: Final = (1, 10)
"""Lowest and highest rating."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants of an image: the outputs for each face, and how to search for faces."""

    need: Need
    look: Look = DEFAULT_LOOK


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How much a caller may ask for; None: no limit, or the default of the gateway.

    burst: requests at once. concurrent: requests that have not ended.
    """

    requests_per_minute: int | None = None
    burst: int | None = None
    megapixels_per_minute: int | None = None
    concurrent: int | None = None


NO_RATE_LIMITS: Final = RateLimits()

Counted = Literal["all", "place", "work"]
"""The parts of a request that count: a stream takes one of the requests at a time (`place`) from
its beginning to its end; its messages count as requests and megapixels (`work`), one after the
other in this place. Everything else is `all`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The tenant and name for which a request is answered.

    collections: names of those that it sees; None for all of its tenant. account: what its use is
    counted under, the same for each request of a key or a token subject; empty: it has no limits.
    limits: its own ones, instead of the defaults.
    """

    tenant: str
    name: str
    collections: frozenset[str] | None = None
    account: str = ""
    limits: RateLimits = NO_RATE_LIMITS

    def sees(self, collection: str) -> bool:
        """Whether a collection of its tenant exists for it."""
        return self.collections is None or collection in self.collections


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An encoded image whose header has been read; its pixels have not been decoded.

    width, height: pixels of the upright image (EXIF orientation applied).
    sha256: of the bytes, hexadecimal. is_slow: whether it takes long to decode.
    """

    data: bytes
    format: str
    width: int
    height: int
    sha256: str
    is_slow: bool = False


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a face was photographed.

    size: shorter edge of the box in pixels; sharpness, brightness: 0-1; yaw, pitch, roll: degrees.
    """

    size: float
    sharpness: float
    brightness: float
    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What makes a face acceptable; a value beyond its limit is named in `reasons`."""

    """Limits for an acceptable face; `reasons` names each value beyond its limit."""
    min_size: float = 40.0
    """Pixels: below it ArcFace's 112-pixel crop is enlarged almost threefold."""
    min_sharpness: float = 0.15
    min_brightness: float = 0.15
    max_brightness: float = 0.9
    max_yaw: float = 45.0
    """Degrees to either side: beyond them one eye is hidden."""
    max_pitch: float = 35.0
    max_roll: float = 45.0

    def reasons(self, quality: Quality) -> tuple[str, ...]:
        """Name every quality problem of a face; empty for an acceptable one."""
        verdicts = {
            "too_small": quality.size < self.min_size,
            "blurred": quality.sharpness < self.min_sharpness,
            "too_dark": quality.brightness < self.min_brightness,
            "too_bright": quality.brightness > self.max_brightness,
            "turned_away": abs(quality.yaw) > self.max_yaw,
            "looking_up_or_down": abs(quality.pitch) > self.max_pitch,
            "tilted": abs(quality.roll) > self.max_roll,
        }
        return tuple(reason for reason, failed in verdicts.items() if failed)


@dataclass(frozen=True, slots=True)
class Face:
    """One face, in pixels of the upright image.

    box: x1 y1 x2 y2. landmarks: five x y (left eye, right eye, nose, left and right mouth corner,
    as seen in the image). outputs: the further values requested, by the name of
    `contract.FaceOutput`: a float (NaN if the weights do not fit) or an array of its dtype.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    confidence: float
    quality: Quality
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The rating; None if not requested, NaN if the head does not fit the space."""
        return self.outputs.get("score")

    @property
    def embedding(self) -> Embedding | None:
        """The embedding; None if not requested."""
        return self.outputs.get("embedding")

    @property
    def crop(self) -> Crop | None:
        """The aligned face; None if not requested."""
        return self.outputs.get("crop")

    def with_outputs(self, **values: Any) -> "Face":
        """Copy the face with these outputs replaced; None removes one."""
        merged = {**self.outputs, **values}
        kept = {name: value for name, value in merged.items() if value is not None}
        return replace(self, outputs=kept)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a stage that produced a result: id (16 hex digits) and, if known, version."""

    id: str
    version: str | None


ActiveVersions = Mapping[str, Weights]
"""By stage name: the weights that would process a new request, as far as known."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Faces of one image, largest first, and the weights that made them.

    weights: of each stage that ran, by its name. beyond: confidences of smaller faces that were
    found beyond `max_faces`. rotation: degrees clockwise by which the picture was rotated for the
    search.
    """

    faces: tuple[Face, ...]
    weights: Mapping[str, Weights]
    engine: str = TRITON_ENGINE
    beyond: tuple[float, ...] = ()
    rotation: int = 0

    @property
    def detection(self) -> Weights:
        """The detector."""
        return self.weights[_DETECTION.name]

    @property
    def embedding(self) -> Weights | None:
        """The embedding network, whose id is the space; None if it did not run."""
        return self.weights.get(_EMBEDDING.name)

    @property
    def scoring(self) -> Weights | None:
        """The scoring head; None if it did not run."""
        return self.weights.get(_SCORING.name)

    @property
    def confidences(self) -> tuple[float, ...]:
        """Confidences of all faces found, largest first."""
        return (*(face.confidence for face in self.faces), *self.beyond)


@dataclass(frozen=True, slots=True)
class StageVersion:
    """One version of a stage; `state` and `reason` are the engine's own words."""

    version: str
    state: str
    reason: str
    id: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the version serves requests."""
        return self.state == "READY"


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage and its versions, lowest first."""

    name: str
    versions: tuple[StageVersion, ...]

    @property
    def ready(self) -> bool:
        """Whether any version serves requests."""
        return self.serving is not None

    @property
    def serving(self) -> str | None:
        """The version that processes a new request: the newest that is ready."""
        return next((each.version for each in reversed(self.versions) if each.ready), None)


@dataclass(frozen=True, slots=True)
class FallbackStatus:
    """Whether the fallback engine can answer; `detail` says why it does not, or need not."""

    answers: bool
    detail: str


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Whether the inference engine answers; `detail` says why it does not.

    fallback: None if there is none.
    """

    reachable: bool
    detail: str
    stages: tuple[StageStatus, ...]
    fallback: FallbackStatus | None = None

    @property
    def ready(self) -> bool:
        """Whether the engine and each of its stages answer."""
        return self.reachable and all(stage.ready for stage in self.stages)

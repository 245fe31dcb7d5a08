"""What the gateway thinks in: images, faces, analyses. Frozen, without HTTP or Triton."""

import enum
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from triton_python_backend.contract import DEFAULT_LOOK, Look

Embedding = npt.NDArray[np.float32]
"""[D] float32, unit length."""
Crop = npt.NDArray[np.uint8]
"""[112,112,3] uint8 RGB, aligned to ArcFace's template."""

DEFAULT_TENANT: Final = "default"
"""Whose requests are those that name no tenant."""

SCORE_RANGE: Final = (1, 10)
"""Lowest and highest rating."""


class Need(enum.Flag):
    """What is wanted beyond boxes, landmarks, confidences and quality, which are always there."""

    NOTHING_MORE = 0
    EMBEDDING = enum.auto()
    SCORE = enum.auto()
    CROPS = enum.auto()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of an image: what is wanted of its faces, and how they are looked for."""

    need: Need
    look: Look = DEFAULT_LOOK


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request is answered."""

    tenant: str
    name: str


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

    min_size: float = 40.0
    """Pixels: below it ArcFace's 112-pixel crop is enlarged almost threefold."""
    min_sharpness: float = 0.15
    min_brightness: float = 0.15
    max_brightness: float = 0.9
    max_yaw: float = 45.0
    """Degrees to either side: beyond it one eye disappears."""
    max_pitch: float = 35.0
    max_roll: float = 45.0

    def reasons(self, quality: Quality) -> tuple[str, ...]:
        """Name all that is wrong with a face; empty for an acceptable one."""
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
    as seen in the image). score: None if not asked for, NaN where the head does not fit.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    confidence: float
    quality: Quality
    score: float | None = None
    embedding: Embedding | None = None
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a stage that answered: their id (16 hex digits) and, if known, version."""

    id: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """Faces of one image, largest first, and the weights that found, embedded and scored them.

    embedding, scoring: None if the stage was not asked. The id of `embedding` is the space.
    beyond: confidences of the smaller faces that were found beside those asked for.
    rotation: degrees by which the picture was turned clockwise to be looked at.
    """

    faces: tuple[Face, ...]
    detection: Weights
    embedding: Weights | None = None
    scoring: Weights | None = None
    engine: str = "triton"
    beyond: tuple[float, ...] = ()
    rotation: int = 0

    @property
    def confidences(self) -> tuple[float, ...]:
        """Of all faces found, largest first."""
        return (*(face.confidence for face in self.faces), *self.beyond)


@dataclass(frozen=True, slots=True)
class InService:
    """The weights that a new request would meet; None where that is not known."""

    detection: Weights | None
    embedding: Weights | None
    scoring: Weights | None


@dataclass(frozen=True, slots=True)
class StageVersion:
    """One version of a stage as the engine sees it; state and reason in the engine's words."""

    version: str
    state: str
    reason: str
    id: str | None = None

    @property
    def ready(self) -> bool:
        """Whether the version answers."""
        return self.state == "READY"


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage and its versions, lowest first."""

    name: str
    versions: tuple[StageVersion, ...]

    @property
    def ready(self) -> bool:
        """Whether some version answers."""
        return self.serving is not None

    @property
    def serving(self) -> str | None:
        """The version that a new request meets: the newest that answers."""
        return next((each.version for each in reversed(self.versions) if each.ready), None)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What the inference engine says of itself; `detail` says why it is not there."""

    reachable: bool
    detail: str
    stages: tuple[StageStatus, ...]

    @property
    def ready(self) -> bool:
        """Whether the engine and each of its stages answer."""
        return self.reachable and all(stage.ready for stage in self.stages)

"""Rank 3: JSON in and out: the shapes, once, for the answers and for the OpenAPI document.

Fields that were not asked for are left unset and do not appear; `null` means that a value was asked
for and is not known.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from gateway.models import (
    SCORE_RANGE,
)
from triton_python_backend import contract

Vector = Annotated[
    Any,
    PlainValidator(lambda value: np.asarray(value, dtype=np.float32)),
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
]
"""[D] float32; stays an array until it is written, which spares 512 Python floats per face."""

NO_NUL = r"^[^\x00]*$"
"""Pattern of texts that every database can store."""


class Shape(BaseModel):
    """Base of all shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# In ----------------------------------------------------------------------------------------


def _split(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


class NoOptions(Shape):
    """A route without query parameters."""


MaxFaces = Annotated[int | None, Field(ge=1, le=contract.MOST_FACES)]


class FaceOptions(Shape):
    """Query parameters of the routes that answer with faces."""

    include: Annotated[tuple[Literal["embedding", "crop"], ...], BeforeValidator(_split)] = ()
    """What to add to each face, separated by commas."""
    max_faces: MaxFaces = None
    """Answer with so many faces at most, the largest; without it as many as the service is set
    to give (`AURUM_MAX_FACES`, 32)."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    """Leave out faces that the detector is less sure of; it reports none below 0.5."""
    rotation: contract.Rotation = contract.DEFAULT_LOOK.rotation
    """`auto`: an image that shows no upright face is looked at turned, too; `off`: as it is."""
    detail: contract.Detail = contract.DEFAULT_LOOK.detail
    """`high`: a large image is looked at in tiles, too, for small faces; takes seconds."""


class VerifyOptions(Shape):
    """Query parameters of `/api/ml/verify`; `threshold` may also be a field of the body."""

    threshold: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    """Cosine similarity from which the two are one person; without it that of `target_fmr`, else
    of FMR 0.001 where the embedding version is calibrated, else the service's own."""
    target_fmr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """The share of pairs of different people that may match; needs a calibrated version."""
    faces: Literal["largest", "best"] = "largest"
    """`largest`: of each image that face; `best`: of all faces the two that are most alike."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    """Leave out faces that the detector is less sure of; it reports none below 0.5."""
    max_faces: MaxFaces = None
    """With `faces=best`: compare so many faces of each image at most, the largest."""
    rotation: contract.Rotation = contract.DEFAULT_LOOK.rotation
    """As for `/api/ml/embed`."""
    detail: contract.Detail = contract.DEFAULT_LOOK.detail
    """As for `/api/ml/embed`."""


class VerifyIn(Shape):
    """Fields of `/api/ml/verify` beside the images."""

    threshold: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    """As the query parameter of this name; one of them may be given."""


# Out ---------------------------------------------------------------------------------------


class ImageOut(Shape):
    """The image that was analysed: upright size in pixels, digest of its bytes."""

    width: int
    height: int
    sha256: str


class QualityOut(Shape):
    """How well the face was photographed."""

    size: float
    """Shorter edge of the box in pixels."""
    sharpness: float
    """0 (blurred) to 1."""
    brightness: float
    """0 (black) to 1 (white)."""
    yaw: float
    """Degrees; above 0 the nose points to the right of the image."""
    pitch: float
    """Degrees; above 0 the face looks up."""
    roll: float
    """Degrees; above 0 the head is tilted clockwise in the image, after its `rotation`."""
    acceptable: bool
    """Whether `reasons` is empty."""
    reasons: list[str]
    """Why the face is not acceptable."""


class FaceOut(Shape):
    """A face, in pixels of the upright image."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2."""
    landmarks: list[tuple[float, float]]
    """Left eye, right eye, nose, left and right mouth corner, as seen in the image after its
    `rotation`; in pixels of the image as it was sent."""
    confidence: float
    """Of the detector, 0 to 1."""
    quality: QualityOut
    score: float | None = None
    """1 to 10; null where the scoring head was not made for the embedding model in service."""
    embedding: Vector = Field(default_factory=list)
    """Unit vector; comparable only within one space. With `include=embedding`."""
    crop: str = Field(default_factory=str)
    """The aligned face, 112 x 112, as a data URI of a PNG. With `include=crop`."""


class ModelsOut(Shape):
    """The versions that made this answer; null for a stage that it did not need."""

    detection: str | None
    embedding: str | None
    scoring: str | None
    space: str | None
    """Id of the embedding space, 16 hexadecimal digits."""


class TookOut(Shape):
    """Milliseconds by part; `total` includes receiving the request's body."""

    validate_: float = Field(alias="validate")
    inference: float
    total: float

    model_config = ConfigDict(serialize_by_alias=True)


class FacesOut(Shape):
    """Answer with the faces of one image, largest first."""

    request_id: str
    image: ImageOut
    faces: list[FaceOut]
    faces_found: int
    """How many faces were found, with those beyond `max_faces`; none below `min_confidence`."""
    rotation: int
    """Degrees by which the image was turned clockwise to be looked at; 0 where it is upright."""
    score_range: tuple[int, int] = SCORE_RANGE
    """Lowest and highest score; only where scores are."""
    models: ModelsOut
    engine: str
    """What computed it."""
    cached: bool
    took_ms: TookOut


class VerifyOut(Shape):
    """Answer on whether two images show one person."""

    request_id: str
    similarity: float
    """Cosine, -1 to 1."""
    match: bool
    """Whether `similarity` >= `threshold`."""
    threshold: float
    face_a: FaceOut
    face_b: FaceOut
    faces_found_a: int
    """How many faces `image_a` shows, none below `min_confidence`."""
    faces_found_b: int
    rotation_a: int
    """Degrees by which `image_a` was turned clockwise to be looked at."""
    rotation_b: int
    image_a: ImageOut
    image_b: ImageOut
    models: ModelsOut
    engine: str
    cached: bool
    took_ms: TookOut


class SourceOut(Shape):
    """The file that was imported."""

    file: str | None
    sha256: str | None


class RateOut(Shape):
    """Error rates at one threshold."""

    threshold: float
    fmr: float
    """Share of pairs of different people that match."""
    fnmr: float
    """Share of pairs of one person that do not match."""


class CalibrationOut(Shape):
    """What was measured with an embedding version."""

    source: str
    """Name of the file of labelled pairs."""
    same_pairs: int
    different_pairs: int
    made_at: str
    threshold: float | None
    """For FMR 0.001; null if too few pairs tell it."""
    rates: list[RateOut]
    """At FMR 0.1, 0.01, 0.001 and so on, as far as the pairs tell."""


class ReferenceOut(Shape):
    """Photos on which a version was measured, and against which drift is told."""

    photos: str
    faces: int
    made_at: str


class VersionOut(Shape):
    """One version of a stage; what the importer did not write down is null."""

    version: str
    state: str
    reason: str
    id: str | None
    """By which answers name these weights; of the embedding stage: the space."""
    sha256: str | None
    source: SourceOut | None
    network: str | None
    dimension: int | None
    space: str | None
    licence: str | None
    imported_at: str | None
    calibration: CalibrationOut | None = None
    reference: ReferenceOut | None = None


class StageOut(Shape):
    """One stage of the ensemble."""

    name: str
    backend: str
    serving: str | None
    """The version that a new request meets; null if none answers."""
    versions: list[VersionOut]


class StagesOut(Shape):
    """All stages, in the order in which an image passes them."""

    request_id: str
    engine: str
    stages: list[StageOut]


class SideOut(Shape):
    """One version while another is tried; times are of the last 1000 answers."""

    version: str | None
    answered: int
    errors: dict[str, int]
    """By code."""
    faces: int
    p50_ms: float | None
    p95_ms: float | None


class ComparedOut(Shape):
    """Images that both versions saw: means over the faces that both found."""

    images: int
    skipped: int
    """Only one version saw them, as the other was busy."""
    failed: int
    matched: int
    only_active: int
    only_candidate: int
    box_iou: float | None
    cosine_mean: float | None
    """Null where the spaces differ."""
    cosine_min: float | None
    score_difference_mean: float | None
    """Of absolute differences."""
    score_difference_max: float | None
    scores_lost: int
    """Faces that only the version in service rates."""


class TrialOut(Shape):
    """A version being tried."""

    trial: str
    stage: str
    version: str
    mode: Literal["canary", "shadow"]
    share: float
    by: Literal["request", "tenant"]
    since: str
    state: Literal["running", "stopped"]
    reason: str
    """Why it was stopped."""
    rates: bool
    """Whether scores come out; if not, requests for scores are not given to it."""
    active: SideOut
    candidate: SideOut
    compared: ComparedOut


class CandidateOut(Shape):
    """What is being tried, as this gateway process has counted it; null if nothing is."""

    request_id: str
    trial: TrialOut | None


class LiveOut(Shape):
    """The process answers."""

    status: Literal["live"]


class StateOut(Shape):
    """A version of a stage, in the engine's words."""

    version: str
    state: str
    reason: str


class PartOut(Shape):
    """One part; readiness does not depend on one that may be `degraded`."""

    status: Literal["ready", "degraded", "unready"]
    detail: str
    version: str | None = None
    """Of a stage: the version that answers; null if none does."""
    versions: list[StateOut] = []
    """Of a stage: all that the engine knows of."""


class ReadyOut(Shape):
    """Whether every part is ready."""

    status: Literal["ready", "unready"]
    parts: dict[str, PartOut]


class ProblemOut(Shape):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    error: str | None = None
    """Below `/v2` alone: the detail again, where clients of KServe v2 look for it."""

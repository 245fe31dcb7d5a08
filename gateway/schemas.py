"""Rank 3: JSON in and out: the shapes, once, for the answers and for the OpenAPI document.

Fields that were not asked for are left unset and do not appear; `null` means that a value was asked
for and is not known.
"""

import base64
import io
import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from gateway.models import (
    SCORE_RANGE,
    Analysis,
    CheckedImage,
    Crop,
    EngineStatus,
    Face,
    Quality,
    QualityLimits,
    StageStatus,
    StageVersion,
)
from gateway.pipeline import Comparison, Result, Timings
from gateway.sidecars import Sidecar
from triton_python_backend import contract

QUALITY_LIMITS: Final = QualityLimits()

Vector = Annotated[
    Any,
    PlainValidator(lambda value: np.asarray(value, dtype=np.float32)),
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
]
"""[D] float32; stays an array until it is written, which spares 512 Python floats per face."""


class Shape(BaseModel):
    """Base of all shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# In ----------------------------------------------------------------------------------------


def _split(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


class NoOptions(Shape):
    """A route without query parameters."""


class FaceOptions(Shape):
    """Query parameters of the routes that answer with faces."""

    include: Annotated[tuple[Literal["embedding", "crop"], ...], BeforeValidator(_split)] = ()
    """What to add to each face, separated by commas."""
    max_faces: int = Field(default=contract.MAX_FACES, ge=1, le=contract.MAX_FACES)
    """Answer with so many faces at most, the largest."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    """Leave out faces that the detector is less sure of; it reports none below 0.5."""


class VerifyOptions(Shape):
    """Query parameters of `/api/ml/verify`; `threshold` may also be a field of the body."""

    threshold: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    """Cosine similarity from which the two are one person; without it the service's own."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    """Leave out faces that the detector is less sure of; it reports none below 0.5."""


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
    """Degrees; above 0 the head is tilted clockwise in the image."""
    acceptable: bool
    """Whether `reasons` is empty."""
    reasons: list[str]
    """Why the face is not acceptable."""


class FaceOut(Shape):
    """A face, in pixels of the upright image."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2."""
    landmarks: list[tuple[float, float]]
    """Left eye, right eye, nose, left and right mouth corner, as seen in the image."""
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
    calibration: None = None


class StageOut(Shape):
    """One stage of the ensemble."""

    name: str
    backend: str
    versions: list[VersionOut]


class StagesOut(Shape):
    """All stages, in the order in which an image passes them."""

    request_id: str
    engine: str
    stages: list[StageOut]


class LiveOut(Shape):
    """The process answers."""

    status: Literal["live"]


class PartOut(Shape):
    """One part that readiness depends on."""

    status: Literal["ready", "unready"]
    detail: str


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


# From our own to JSON ----------------------------------------------------------------------


def faces_out(
    result: Result, *, request_id: str, include: tuple[str, ...], scored: bool, total_ms: float
) -> FacesOut:
    """Shape the answer of the routes that answer with faces."""
    scores = {"score_range": SCORE_RANGE} if scored else {}
    return FacesOut(
        request_id=request_id,
        image=image_out(result.image),
        faces=[face_out(face, include=include, scored=scored) for face in result.analysis.faces],
        models=models_out(result.analysis),
        engine=result.analysis.engine,
        cached=False,
        took_ms=took_out(result.took_ms, total_ms),
        **scores,
    )


def verify_out(
    comparison: Comparison, *, request_id: str, threshold: float, total_ms: float
) -> VerifyOut:
    """Shape the answer of `/api/ml/verify`."""
    a, b = comparison.a, comparison.b
    slowest = Timings(
        validate=max(a.took_ms.validate, b.took_ms.validate),
        inference=max(a.took_ms.inference, b.took_ms.inference),
        total=total_ms,
    )
    return VerifyOut(
        request_id=request_id,
        similarity=comparison.similarity,
        match=comparison.similarity >= threshold,
        threshold=threshold,
        face_a=face_out(a.analysis.faces[0], include=(), scored=False),
        face_b=face_out(b.analysis.faces[0], include=(), scored=False),
        image_a=image_out(a.image),
        image_b=image_out(b.image),
        models=models_out(a.analysis),
        engine=a.analysis.engine,
        cached=False,
        took_ms=took_out(slowest, total_ms),
    )


def image_out(image: CheckedImage) -> ImageOut:
    """Shape an image."""
    return ImageOut(width=image.width, height=image.height, sha256=image.sha256)


def face_out(face: Face, *, include: tuple[str, ...], scored: bool) -> FaceOut:
    """Shape a face: coordinates to 2 decimals, ratings to 4, an embedding as it is."""
    extra: dict[str, Any] = {}
    if scored:
        extra["score"] = _rating(face.score)
    if "embedding" in include:
        extra["embedding"] = face.embedding
    if "crop" in include and face.crop is not None:
        extra["crop"] = _data_uri(face.crop)
    left, top, right, bottom = face.box
    return FaceOut(
        box=(round(left, 2), round(top, 2), round(right, 2), round(bottom, 2)),
        landmarks=[(round(x, 2), round(y, 2)) for x, y in face.landmarks],
        confidence=round(face.confidence, 4),
        quality=quality_out(face.quality),
        **extra,
    )


def quality_out(quality: Quality) -> QualityOut:
    """Shape a quality and say whether it is acceptable."""
    reasons = QUALITY_LIMITS.reasons(quality)
    return QualityOut(
        size=round(quality.size, 2),
        sharpness=round(quality.sharpness, 4),
        brightness=round(quality.brightness, 4),
        yaw=round(quality.yaw, 2),
        pitch=round(quality.pitch, 2),
        roll=round(quality.roll, 2),
        acceptable=not reasons,
        reasons=list(reasons),
    )


def models_out(analysis: Analysis) -> ModelsOut:
    """Shape what answered."""
    embedding, scoring = analysis.embedding, analysis.scoring
    return ModelsOut(
        detection=analysis.detection.version,
        embedding=None if embedding is None else embedding.version,
        scoring=None if scoring is None else scoring.version,
        space=None if embedding is None else embedding.id,
    )


def took_out(timings: Timings, total_ms: float) -> TookOut:
    """Shape timings, rounded to microseconds."""
    return TookOut(
        validate=round(timings.validate, 3),
        inference=round(timings.inference, 3),
        total=round(total_ms, 3),
    )


def stages_out(
    stages: Sequence[StageStatus],
    *,
    request_id: str,
    sidecars: dict[tuple[str, str], Sidecar | None],
) -> StagesOut:
    """Shape the stages; `sidecars` by name of stage and version."""
    backends = {stage.name: stage.backend for stage in contract.STAGES}
    return StagesOut(
        request_id=request_id,
        engine="triton",
        stages=[
            StageOut(
                name=stage.name,
                backend=backends[stage.name],
                versions=[
                    version_out(stage.name, each, sidecars.get((stage.name, each.version)))
                    for each in stage.versions
                ],
            )
            for stage in stages
        ],
    )


def version_out(stage: str, version: StageVersion, sidecar: Sidecar | None) -> VersionOut:
    """Shape a version; a sidecar of other weights than those that answer does not count."""
    told = sidecar or Sidecar()
    if told.id is not None and version.id is not None and told.id != version.id:
        told = Sidecar()
    is_space = stage == contract.EMBEDDING_STAGE.name
    return VersionOut(
        version=version.version,
        state=version.state,
        reason=version.reason,
        id=version.id,
        sha256=told.sha256,
        source=None if told.source is None else SourceOut(**told.source.model_dump()),
        network=told.network,
        dimension=told.dimension,
        space=version.id if is_space else told.space,
        licence=told.licence,
        imported_at=told.imported_at,
        calibration=None,
    )


def ready_out(status: EngineStatus) -> ReadyOut:
    """Shape readiness: the engine and each of its stages."""
    parts = {"triton": _part(status.reachable, status.detail)}
    for stage in status.stages:
        reasons = "; ".join(f"version {v.version}: {v.state} {v.reason}" for v in stage.versions)
        served = ", ".join(f"version {v.version}" for v in stage.versions if v.ready)
        parts[stage.name] = _part(stage.ready, served or reasons or "no version")
    return ReadyOut(status="ready" if status.ready else "unready", parts=parts)


def _part(ready: bool, detail: str) -> PartOut:
    return PartOut(status="ready" if ready else "unready", detail=detail.strip())


def _rating(score: float | None) -> float | None:
    return None if score is None or math.isnan(score) else round(score, 4)


def _data_uri(crop: Crop) -> str:
    target = io.BytesIO()
    Image.fromarray(crop).save(target, format="PNG")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()

"""From analyses to the JSON of faces."""

import base64
import io
from typing import Any, Final

from PIL import Image

from gateway.api.faces.schemas import FacesOut, VerifyOut
from gateway.api.shapes import FaceOut, ImageOut, ModelsOut, QualityOut, TookOut
from gateway.pipeline import Comparison, Result, Timings
from gateway.types import (
    SCORE_RANGE,
    Analysis,
    CheckedImage,
    Crop,
    Face,
    Quality,
    QualityLimits,
)

QUALITY_LIMITS: Final = QualityLimits()


def faces_out(
    result: Result, *, request_id: str, include: tuple[str, ...], scored: bool, total_ms: float
) -> FacesOut:
    """Shape the answer of the routes that answer with faces."""
    scores = {"score_range": SCORE_RANGE} if scored else {}
    return FacesOut(
        request_id=request_id,
        image=image_out(result.image),
        faces=[face_out(face, include=include, scored=scored) for face in result.analysis.faces],
        faces_found=result.faces_found,
        rotation=result.analysis.rotation,
        models=models_out(result.analysis),
        engine=result.analysis.engine,
        cached=result.cached,
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
        face_a=face_out(comparison.face_a, include=(), scored=False),
        face_b=face_out(comparison.face_b, include=(), scored=False),
        faces_found_a=a.faces_found,
        faces_found_b=b.faces_found,
        rotation_a=a.analysis.rotation,
        rotation_b=b.analysis.rotation,
        image_a=image_out(a.image),
        image_b=image_out(b.image),
        models=models_out(a.analysis),
        engine=a.analysis.engine,
        cached=a.cached and b.cached,
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


def _rating(score: float | None) -> float | None:
    # NaN, a head that does not fit, is written as null
    return None if score is None else round(score, 4)


def png(crop: Crop) -> bytes:
    """Encode an aligned face, [112,112,3] uint8 RGB."""
    target = io.BytesIO()
    Image.fromarray(crop).save(target, format="PNG")
    return target.getvalue()


def _data_uri(crop: Crop) -> str:
    return "data:image/png;base64," + base64.b64encode(png(crop)).decode()

"""From analyses to the JSON of faces."""

import base64
import io
import math
from collections.abc import Callable
from functools import cache
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
    Need,
    Quality,
    QualityLimits,
)
from triton_python_backend.contract import ONNX_STAGES, FaceOutput
from triton_python_backend.needs import face_outputs_for

QUALITY_LIMITS: Final = QualityLimits()
_SHOWN_STAGES: Final = tuple(
    (stage.short_name, stage.name)
    for stage in ONNX_STAGES
    if stage.short_name in ModelsOut.model_fields
)


def faces_out(result: Result, *, request_id: str, need: Need, total_ms: float) -> FacesOut:
    """Shape the answer of the routes that answer with faces; need: what each of them shows."""
    scores = {"score_range": SCORE_RANGE} if Need.SCORE in need else {}
    return FacesOut(
        request_id=request_id,
        image=image_out(result.image),
        faces=[face_out(face, need) for face in result.analysis.faces],
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
        face_a=face_out(comparison.face_a),
        face_b=face_out(comparison.face_b),
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


def face_out(face: Face, need: Need = Need.NOTHING_MORE) -> FaceOut:
    """Shape a face: coordinates to 2 decimals, numbers to 4, a vector as it is."""
    outputs = face.outputs
    extra: dict[str, Any] = {
        name: write(outputs[name]) if name in outputs else None for name, write in _writers(need)
    }
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
    """Shape what answered: versions by the short names of stages that `ModelsOut` has."""
    versions = {
        name: weights.version if (weights := analysis.weights.get(stage)) is not None else None
        for name, stage in _SHOWN_STAGES
    }
    space = analysis.embedding
    return ModelsOut(space=None if space is None else space.id, **versions)


def took_out(timings: Timings, total_ms: float) -> TookOut:
    """Shape timings, rounded to microseconds."""
    return TookOut(
        validate=round(timings.validate, 3),
        inference=round(timings.inference, 3),
        total=round(total_ms, 3),
    )


def png(crop: Crop) -> bytes:
    """Encode an aligned face, [112,112,3] uint8 RGB."""
    target = io.BytesIO()
    Image.fromarray(crop).save(target, format="PNG")
    return target.getvalue()


def _data_uri(crop: Crop) -> str:
    return "data:image/png;base64," + base64.b64encode(png(crop)).decode()


def _number(value: float) -> float | None:
    # NaN: the weights do not fit those before them
    return round(value, 4) if math.isfinite(value) else None


def _as_it_is(value: Any) -> Any:
    return value


def _writer(output: FaceOutput) -> Callable[[Any], Any]:
    if output.is_number:
        return _number
    return _as_it_is if output.is_vector else _data_uri


@cache
def _writers(need: Need) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    return tuple((output.name, _writer(output)) for output in face_outputs_for(need))

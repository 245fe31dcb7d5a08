"""Rank 3: from our own types to the shapes of the answers."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from PIL import Image

from gateway.calibrations import DEFAULT_FMR, Calibration
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
from gateway.schemas import (
    CalibrationOut,
    FaceOut,
    FacesOut,
    ImageOut,
    ModelsOut,
    PartOut,
    QualityOut,
    RateOut,
    ReadyOut,
    SourceOut,
    StageOut,
    StagesOut,
    TookOut,
    VerifyOut,
    VersionOut,
)
from gateway.sidecars import Sidecar
from triton_python_backend import contract

_SHOWN_FMR: Final = (0.1, 0.01, 1e-3, 1e-4, 1e-5)
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
        face_a=face_out(a.analysis.faces[0], include=(), scored=False),
        face_b=face_out(b.analysis.faces[0], include=(), scored=False),
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


def stages_out(
    stages: Sequence[StageStatus],
    *,
    request_id: str,
    sidecars: dict[tuple[str, str], Sidecar | None],
    calibration_of: Callable[[str], Calibration | None],
) -> StagesOut:
    """Shape the stages; `sidecars` by name of stage and version, calibrations by space."""
    backends = {stage.name: stage.backend for stage in contract.STAGES}
    return StagesOut(
        request_id=request_id,
        engine="triton",
        stages=[
            StageOut(
                name=stage.name,
                backend=backends[stage.name],
                versions=[
                    version_out(
                        stage.name,
                        each,
                        sidecars.get((stage.name, each.version)),
                        calibration_of(each.id)
                        if each.id is not None and stage.name == contract.EMBEDDING_STAGE.name
                        else None,
                    )
                    for each in stage.versions
                ],
            )
            for stage in stages
        ],
    )


def calibration_out(calibration: Calibration) -> CalibrationOut:
    """Shape a calibration: the rates at the round FMRs that it tells."""
    thresholds = (calibration.threshold_at(fmr) for fmr in _SHOWN_FMR)
    shown = {threshold for threshold in thresholds if threshold is not None}
    return CalibrationOut(
        source=calibration.source,
        same_pairs=calibration.same_pairs,
        different_pairs=calibration.different_pairs,
        made_at=calibration.made_at,
        threshold=calibration.threshold_at(DEFAULT_FMR),
        rates=[
            RateOut(threshold=rate.threshold, fmr=rate.fmr, fnmr=rate.fnmr)
            for rate in calibration.rates
            if rate.threshold in shown
        ],
    )


def version_out(
    stage: str,
    version: StageVersion,
    sidecar: Sidecar | None,
    calibration: Calibration | None = None,
) -> VersionOut:
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
        calibration=None if calibration is None else calibration_out(calibration),
    )


def ready_out(status: EngineStatus, cache: Mapping[str, str | None] | None) -> ReadyOut:
    """Shape readiness: the engine, each of its stages, and the cache, which nobody waits for.

    cache: why each layer does not answer, None where it does; None if caching is off.
    """
    parts = {"triton": _part(status.reachable, status.detail)}
    for stage in status.stages:
        reasons = "; ".join(f"version {v.version}: {v.state} {v.reason}" for v in stage.versions)
        served = ", ".join(f"version {v.version}" for v in stage.versions if v.ready)
        parts[stage.name] = _part(stage.ready, served or reasons or "no version")
    parts["cache"] = _cache_part(cache)
    return ReadyOut(status="ready" if status.ready else "unready", parts=parts)


def _cache_part(layers: Mapping[str, str | None] | None) -> PartOut:
    if layers is None:
        return PartOut(status="ready", detail="switched off")
    if "redis" not in layers:
        detail = "in this process only: no Redis is named by AURUM_REDIS_URL"
        return PartOut(status="ready", detail=detail)
    reason = layers["redis"]
    if reason is None:
        return PartOut(status="ready", detail="in this process and in Redis")
    return PartOut(status="degraded", detail=f"in this process only: {reason}")


def _part(ready: bool, detail: str) -> PartOut:
    return PartOut(status="ready" if ready else "unready", detail=detail.strip())


def _rating(score: float | None) -> float | None:
    # NaN, a head that does not fit, is written as null
    return None if score is None else round(score, 4)


def _data_uri(crop: Crop) -> str:
    target = io.BytesIO()
    Image.fromarray(crop).save(target, format="PNG")
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()

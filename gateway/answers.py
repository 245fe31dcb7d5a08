"""Rank 3: from our own types to the shapes of the answers."""

import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from PIL import Image

from gateway.calibrations import DEFAULT_FMR, Calibration
from gateway.candidates.report import Compared, Side
from gateway.candidates.trials import Trials
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
from gateway.references import Reference
from gateway.schemas import (
    CalibrationOut,
    CandidateOut,
    ComparedOut,
    FaceOut,
    FacesOut,
    ImageOut,
    ModelsOut,
    PartOut,
    QualityOut,
    RateOut,
    ReadyOut,
    ReferenceOut,
    SideOut,
    SourceOut,
    StageOut,
    StagesOut,
    StateOut,
    TookOut,
    TrialOut,
    VerifyOut,
    VersionOut,
)
from gateway.sidecars import Sidecar
from gateway.watch.opening import Watch
from gateway.watch.portrait import Portrait
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


def stages_out(
    stages: Sequence[StageStatus],
    *,
    request_id: str,
    sidecars: dict[tuple[str, str], Sidecar | None],
    calibration_of: Callable[[str], Calibration | None],
    reference_of: Callable[[str, str], Reference | None],
) -> StagesOut:
    """Shape the stages.

    Sidecars come by name of stage and version, calibrations by space, references by name of stage
    and id.
    """
    backends = {stage.name: stage.backend for stage in contract.STAGES}
    return StagesOut(
        request_id=request_id,
        engine="triton",
        stages=[
            StageOut(
                name=stage.name,
                backend=backends[stage.name],
                serving=stage.serving,
                versions=[
                    version_out(
                        stage.name,
                        each,
                        sidecars.get((stage.name, each.version)),
                        calibration_of(each.id)
                        if each.id is not None and stage.name == contract.EMBEDDING_STAGE.name
                        else None,
                        None if each.id is None else reference_of(stage.name, each.id),
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
    reference: Reference | None = None,
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
        reference=None
        if reference is None
        else ReferenceOut(
            photos=reference.photos, faces=reference.faces, made_at=reference.made_at
        ),
    )


def candidate_out(trials: Trials, *, request_id: str) -> CandidateOut:
    """Shape the trial under way."""
    candidate, report = trials.candidate, trials.report
    if candidate is None or report is None:
        return CandidateOut(request_id=request_id, trial=None)
    plan = candidate.plan.model_dump() | {"version": str(candidate.plan.version)}
    trial = TrialOut(
        **plan,
        state="stopped" if trials.stopped else "running",
        reason=trials.stopped,
        rates=candidate.rates,
        active=_side_out(report.active),
        candidate=_side_out(report.candidate),
        compared=_compared_out(report.compared),
    )
    return CandidateOut(request_id=request_id, trial=trial)


def _side_out(side: Side) -> SideOut:
    times = [side.percentile_ms(percent) for percent in (50, 95)]
    p50, p95 = (None if time is None else round(time, 1) for time in times)
    return SideOut(
        version=side.version,
        answered=side.answered,
        errors=dict(side.errors),
        faces=side.faces,
        p50_ms=p50,
        p95_ms=p95,
    )


def _compared_out(total: Compared) -> ComparedOut:
    def mean(value: float, count: int) -> float | None:
        return round(value / count, 4) if count else None

    return ComparedOut(
        images=total.images,
        skipped=total.skipped,
        failed=total.failed,
        matched=total.matched,
        only_active=total.only_active,
        only_candidate=total.only_candidate,
        box_iou=mean(total.overlap_sum, total.matched),
        cosine_mean=mean(total.cosine_sum, total.cosines),
        cosine_min=round(total.cosine_min, 4) if total.cosines else None,
        score_difference_mean=mean(total.score_sum, total.scores),
        score_difference_max=round(total.score_max, 4) if total.scores else None,
        scores_lost=total.scores_lost,
    )


def ready_out(
    status: EngineStatus, cache: Mapping[str, str | None] | None, watch: Watch
) -> ReadyOut:
    """Shape readiness: the engine and its stages, then the parts that faces are found without.

    Without vectors or records the routes of collections answer 503 by themselves, and all others
    work: a gateway without them stays in service, as one without its cache does.

    cache: why each layer does not answer, None where it does; None if caching is off.
    """
    parts = {"triton": _part(status.reachable, status.detail)}
    for stage in status.stages:
        parts[stage.name] = _stage_part(stage)
    parts["cache"] = _cache_part(cache)
    for name, state in watch.parts.states.items():
        parts[name] = PartOut(status="ready" if state.works else "degraded", detail=state.detail)
    parts["portrait"] = _portrait_part(watch.portrait)
    return ReadyOut(status="ready" if status.ready else "unready", parts=parts)


def _stage_part(stage: StageStatus) -> PartOut:
    reasons = "; ".join(f"version {v.version}: {v.state} {v.reason}" for v in stage.versions)
    served = ", ".join(f"version {v.version}" for v in stage.versions if v.ready)
    return PartOut(
        status="ready" if stage.ready else "unready",
        detail=(served or reasons or "no version").strip(),
        version=stage.serving,
        versions=[
            StateOut(version=v.version, state=v.state, reason=v.reason) for v in stage.versions
        ],
    )


def _portrait_part(portrait: Portrait) -> PartOut:
    if not portrait.switched_on:
        return PartOut(status="ready", detail="switched off")
    report = portrait.last
    if report is None:
        return PartOut(status="ready", detail="not sent of late")
    trouble = report.trouble
    told = f"{time.time() - report.at:.0f} s ago, {report.seconds * 1000:.0f} ms"
    if trouble is None:
        return PartOut(status="ready", detail=f"answers as ever, {told}")
    return PartOut(status="degraded", detail=f"{trouble}, {told}")


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


def png(crop: Crop) -> bytes:
    """Encode an aligned face, [112,112,3] uint8 RGB."""
    target = io.BytesIO()
    Image.fromarray(crop).save(target, format="PNG")
    return target.getvalue()


def _data_uri(crop: Crop) -> str:
    return "data:image/png;base64," + base64.b64encode(png(crop)).decode()

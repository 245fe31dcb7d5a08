"""From stages, versions and trials to their JSON."""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.api.models.schemas import (
    CalibrationOut,
    CandidateOut,
    ComparedOut,
    ComparedValuesOut,
    RateOut,
    ReferenceOut,
    SideOut,
    SourceOut,
    StageOut,
    StagesOut,
    TrialOut,
    VersionOut,
)
from gateway.registry.calibration import DEFAULT_FMR, Calibration
from gateway.registry.reference import Reference
from gateway.registry.version_metadata import VersionMetadata
from gateway.rollout.trial_metrics import Compared, Side, Values
from gateway.rollout.trials import Trials
from gateway.types import (
    StageStatus,
    StageVersion,
)
from triton_python_backend import contract

_SHOWN_FMR: Final = (0.1, 0.01, 1e-3, 1e-4, 1e-5)


def stages_out(
    stages: Sequence[StageStatus],
    *,
    request_id: str,
    metadata: dict[tuple[str, str], VersionMetadata | None],
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
                        metadata.get((stage.name, each.version)),
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
    """Shape a calibration: the rates at the round FMRs that it has."""
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
    sidecar: VersionMetadata | None,
    calibration: Calibration | None = None,
    reference: Reference | None = None,
) -> VersionOut:
    """Shape a version; a sidecar of other weights than those that answer does not count."""
    written = sidecar or VersionMetadata()
    if written.id is not None and version.id is not None and written.id != version.id:
        written = VersionMetadata()
    is_space = stage == contract.EMBEDDING_STAGE.name
    return VersionOut(
        version=version.version,
        state=version.state,
        reason=version.reason,
        id=version.id,
        sha256=written.sha256,
        source=None if written.source is None else SourceOut(**written.source.model_dump()),
        network=written.network,
        dimension=written.dimension,
        space=version.id if is_space else written.space,
        licence=written.licence,
        imported_at=written.imported_at,
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
    values = dict(total.values)
    cosines, scores = values.pop("embedding"), values.pop("score")
    further = {name: _values_out(each) for name, each in values.items()}
    return ComparedOut(
        images=total.images,
        skipped=total.skipped,
        failed=total.failed,
        matched=total.matched,
        only_active=total.only_active,
        only_candidate=total.only_candidate,
        box_iou=_rounded(total.overlap_sum / total.matched if total.matched else None),
        cosine_mean=_rounded(cosines.mean),
        cosine_min=_rounded(cosines.least) if cosines.count else None,
        score_difference_mean=_rounded(scores.mean),
        score_difference_max=_rounded(scores.most) if scores.count else None,
        scores_lost=scores.lost,
        **({"further": further} if further else {}),
    )


def _values_out(values: Values) -> ComparedValuesOut:
    return ComparedValuesOut(
        mean=_rounded(values.mean),
        least=_rounded(values.least) if values.count else None,
        most=_rounded(values.most) if values.count else None,
        lost=values.lost,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

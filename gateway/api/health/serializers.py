"""Build the JSON of the readiness route from the state of each part."""

import time
from collections.abc import Mapping

from gateway.api.health.schemas import PartOut, ReadyOut, StateOut
from gateway.monitoring.factory import Watch
from gateway.monitoring.golden_probe import GoldenProbe
from gateway.types import (
    EngineStatus,
    FallbackStatus,
    StageStatus,
)


def ready_out(
    status: EngineStatus, cache: Mapping[str, str | None] | None, watch: Watch
) -> ReadyOut:
    """Build the readiness response: the engines and their stages, then the optional parts.

    A gateway without vectors or records stays in service, as one without its cache does: only the
    collection routes answer 503, all others work.

    cache: for each layer why it does not answer, None where it does; None if caching is off.
    """
    replaced = not status.ready and status.fallback is not None and status.fallback.answers
    parts = {"triton": _part(status.reachable, status.detail)}
    for stage in status.stages:
        parts[stage.name] = _stage_part(stage)
    if replaced:
        parts = {name: _degraded(part) for name, part in parts.items()}
    parts["fallback"] = _fallback_part(status.fallback)
    parts["cache"] = _cache_part(cache)
    for name, state in watch.parts.states.items():
        parts[name] = PartOut(status="ready" if state.works else "degraded", detail=state.detail)
    parts["portrait"] = _portrait_part(watch.portrait)
    if status.ready:
        return ReadyOut(status="ready", parts=parts)
    return ReadyOut(status="degraded" if replaced else "unready", parts=parts)


def without_details(shape: ReadyOut) -> ReadyOut:
    """Keep the state of each component only: details name addresses and versions."""
    parts = {name: PartOut(status=part.status, detail="") for name, part in shape.parts.items()}
    return ReadyOut(status=shape.status, parts=parts)


def _degraded(part: PartOut) -> PartOut:
    """Show a part of Triton's whose work the fallback engine does."""
    return part if part.status == "ready" else part.model_copy(update={"status": "degraded"})


def _fallback_part(fallback: FallbackStatus | None) -> PartOut:
    if fallback is None:
        return PartOut(status="ready", detail="switched off")
    return PartOut(status="ready" if fallback.answers else "degraded", detail=fallback.detail)


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


def _portrait_part(portrait: GoldenProbe) -> PartOut:
    if not portrait.switched_on:
        return PartOut(status="ready", detail="switched off")
    report = portrait.last
    if report is None:
        return PartOut(status="ready", detail="not sent of late")
    trouble = report.trouble
    when = f"{time.time() - report.at:.0f} s ago, {report.seconds * 1000:.0f} ms"
    if trouble is None:
        return PartOut(status="ready", detail=f"answers as ever, {when}")
    return PartOut(status="degraded", detail=f"{trouble}, {when}")


def _cache_part(layers: Mapping[str, str | None] | None) -> PartOut:
    if layers is None:
        return PartOut(status="ready", detail="switched off")
    if "redis" not in layers:
        detail = "in this process only: AURUM_REDIS_URL is not set"
        return PartOut(status="ready", detail=detail)
    reason = layers["redis"]
    if reason is None:
        return PartOut(status="ready", detail="in this process and in Redis")
    return PartOut(status="degraded", detail=f"in this process only: {reason}")


def _part(ready: bool, detail: str) -> PartOut:
    return PartOut(status="ready" if ready else "unready", detail=detail.strip())

"""Golden probe: a known portrait goes through the live ensemble regularly; does its answer change?

It is compared with the golden answer in the reference of the weights that answered; for weights
without one, with the first answer that they gave here. Crops depend on the detector and scores on
the embedding, so an answer is compared only where all weights before it are the same, too: a swap
is no drift.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import AurumError
from gateway.inference.base import Inference
from gateway.monitoring.lease import Lease
from gateway.registry.reference import References
from gateway.telemetry.metrics import PortraitMetrics
from gateway.types import Analysis, Need
from triton_python_backend import contract
from triton_python_backend.needs import need_for, networks_behind

log = logging.getLogger(__name__)

PORTRAIT: Final = Path(contract.__file__).with_name("portrait.jpg")
BOX_PIXELS: Final = 2.0
LANDMARK_PIXELS: Final = 2.0
CONFIDENCE: Final = 0.05
"""Changes from which the part `portrait` of readiness is degraded, with `FaceOutput.tolerance` of
the outputs; rules in deploy/ use the same."""
PROBED: Final = tuple(output for output in contract.FACE_OUTPUTS if output.tolerance is not None)
NEED: Final = need_for({output.name for output in PROBED})

_PATIENCE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5
_KEPT_REPORTS: Final = 3
"""Intervals for which a report is valid, also for other gateways."""
_MOST_FIRSTS: Final = 64
Floats = npt.NDArray[np.float64]


class Report(BaseModel):
    """What one run found; a change that cannot be measured is NaN."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    at: float
    """Seconds since 1970, UTC."""
    seconds: float
    """How long the ensemble took."""
    outcome: str
    """`ok`, `no_face`, or the code of an error."""
    box_pixels: float = math.nan
    """Furthest that an edge of the box moved, pixels of the portrait."""
    landmark_pixels: float = math.nan
    """Furthest that a landmark moved."""
    confidence: float = math.nan
    """Now less then."""
    moved: dict[str, float] = {}
    """By name of an output: now less then of a number, 1 less the cosine of a vector."""
    golden: dict[str, bool] = {}
    """By stage: whether it was compared with its golden answer, or with its own first one."""
    firsts: dict[str, tuple[float, ...]] = {}
    """First answers by `answer_parts`' keys, for other gateways."""

    @property
    def trouble(self) -> str | None:
        """What is wrong, in words; None if nothing is."""
        if self.outcome != "ok":
            return "shows no face" if self.outcome == "no_face" else self.outcome
        found = [
            f"{what} moved by {value:.3g}{unit}"
            for what, value, unit, limit in (
                ("box", self.box_pixels, " px", BOX_PIXELS),
                ("landmarks", self.landmark_pixels, " px", LANDMARK_PIXELS),
                ("confidence", self.confidence, "", CONFIDENCE),
                *(
                    (output.name, self.moved.get(output.name, 0.0), "", output.tolerance or 0.0)
                    for output in PROBED
                ),
            )
            if abs(value) > limit
        ]
        return "; ".join(found) or None


def answer_parts(analysis: Analysis) -> dict[str, tuple[str, tuple[float, ...]]]:
    """Split the answer for the largest face by stage: ids of all weights behind it, and its values.

    Of the detection box (4), landmarks (10), confidence; of another network the outputs that are
    probed, one after the other; a network is left out if one of them is not there or not finite.
    Without a face nothing.
    """
    if not analysis.faces:
        return {}
    face, parts = analysis.faces[0], {}
    points = [value for point in face.landmarks for value in point]
    found: dict[str, tuple[float, ...]] = {
        contract.DETECTION.name: (*face.box, *points, face.confidence)
    }
    for stage in contract.FACE_NETWORKS:
        names = [output.name for output in _probed(stage)]
        if names and all(name in face.outputs for name in names):
            values = np.concatenate([np.atleast_1d(face.outputs[name]) for name in names]).tolist()
            if np.isfinite(values).all():
                found[stage.name] = tuple(values)
    for name, values in found.items():
        networks = networks_behind(name)
        if all(network in analysis.weights for network in networks):
            key = "-".join(analysis.weights[network].id for network in networks)
            parts[name] = key, values
    return parts


def _probed(stage: contract.Stage) -> list[contract.FaceOutput]:
    return [output for output in stage.face_outputs if output.tolerance is not None]


class GoldenProbe:
    """Sends the portrait, compares and exports."""

    def __init__(
        self,
        inference: Inference,
        references: References,
        metrics: PortraitMetrics,
        lease: Lease,
        *,
        firsts: Path,
        interval_seconds: float,
        need: Need = NEED,
    ) -> None:
        self._inference = inference
        self._references = references
        self._metrics = metrics
        self._lease = lease
        self._file = firsts
        self._interval_seconds = interval_seconds
        self._need = need
        self._image = PORTRAIT.read_bytes()
        self._firsts: dict[str, tuple[float, ...]] = {}
        self._last: Report | None = None

    @property
    def switched_on(self) -> bool:
        """Whether the portrait is sent at all."""
        return self._interval_seconds > 0

    @property
    def last(self) -> Report | None:
        """The last report, of this gateway or another; None where there is no recent one."""
        stale = _KEPT_REPORTS * self._interval_seconds + _PATIENCE_SECONDS
        if self._last is None or time.time() - self._last.at > stale:
            return None
        return self._last

    @asynccontextmanager
    async def running(self, background: BackgroundTasks) -> AsyncIterator[None]:
        """Send it every interval, until the end of the block."""
        if not self.switched_on:
            yield
            return
        self._firsts = await asyncio.to_thread(_read_firsts, self._file)
        async with background.running(
            "portrait", self._keep_sending, restart_seconds=self._interval_seconds
        ):
            yield

    async def turn(self) -> Report | None:
        """Send it if this gateway holds the lease, else take the report of another one, if any."""
        if await self._lease.take(0.95 * self._interval_seconds):
            report = await self.send()
            kept_seconds = _KEPT_REPORTS * self._interval_seconds
            await self._lease.publish(report.model_dump_json().encode(), kept_seconds)
        else:
            found = await self._lease.published()
            if found is None:
                return None
            try:
                report = Report.model_validate_json(found)
            except ValidationError:
                return None
            for key, values in report.firsts.items():
                self._firsts.setdefault(key, values)
        self._last = report
        self._metrics.show(report.model_dump(exclude={"firsts"}))
        return report

    async def send(self) -> Report:
        """Send it once; errors are in the report."""
        started, at = time.monotonic(), time.time()
        try:
            analysis = await self._inference.analyse(
                self._image, need=self._need, deadline=Deadline.after(_PATIENCE_SECONDS)
            )
        except AurumError as error:
            seconds = time.monotonic() - started
            report = Report(at=at, seconds=seconds, outcome=error.code, firsts=self._firsts)
        else:
            report = await self._compare(analysis, at=at, seconds=time.monotonic() - started)
        self._metrics.runs.labels(report.outcome).inc()
        return report

    async def _compare(self, analysis: Analysis, *, at: float, seconds: float) -> Report:
        parts = answer_parts(analysis)
        known, golden = await self._known(parts)
        drift = _drift({stage: (known[stage], now) for stage, (_, now) in parts.items()})
        outcome = "ok" if parts else "no_face"
        return Report(
            at=at, seconds=seconds, outcome=outcome, golden=golden, firsts=self._firsts, **drift
        )

    async def _known(
        self, parts: Mapping[str, tuple[str, tuple[float, ...]]]
    ) -> tuple[dict[str, tuple[float, ...]], dict[str, bool]]:
        """Find what to compare with, by stage; keep what is answered for the first time."""
        known, golden, new = {}, {}, False
        for stage, (key, now) in parts.items():
            found = self._golden(stage, key)
            golden[stage] = found is not None and len(found) == len(now)
            if found is None or not golden[stage]:
                new |= key not in self._firsts
                found = self._firsts.setdefault(key, now)
            known[stage] = found
        if new:
            while len(self._firsts) > _MOST_FIRSTS:
                del self._firsts[next(iter(self._firsts))]
            await asyncio.to_thread(_write_firsts, self._file, dict(self._firsts))
        return known, golden

    def _golden(self, stage: str, key: str) -> tuple[float, ...] | None:
        *before, identifier = key.split("-")
        reference = self._references.of(stage, identifier)
        if reference is None or not reference.portrait:
            return None
        made_with = [reference.made_with.get(name) for name in networks_behind(stage)[:-1]]
        return reference.portrait if made_with == before else None

    async def _keep_sending(self) -> None:
        await self._wait_for_models()
        while True:
            started = time.monotonic()
            await self.turn()
            await asyncio.sleep(max(self._interval_seconds - (time.monotonic() - started), 0))

    async def _wait_for_models(self) -> None:
        """Wait until an engine that starts beside the gateway is ready, for one interval at most.

        Otherwise the first report would say that there is no inference, and stand for an interval.
        """
        ends = time.monotonic() + self._interval_seconds
        while time.monotonic() < ends:
            try:
                status = await self._inference.status(deadline=Deadline.after(_PATIENCE_SECONDS))
            except AurumError:
                pass
            else:
                if status.ready:
                    return
            await asyncio.sleep(_POLL_SECONDS)


def _drift(
    parts: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]],
) -> dict[str, Any]:
    """Compare the answers then and now, by stage: fields of a `Report`."""
    arrays = {stage: (np.array(then), np.array(now)) for stage, (then, now) in parts.items()}
    found: dict[str, Any] = {"moved": {}}
    if contract.DETECTION.name in arrays:
        then, now = arrays[contract.DETECTION.name]
        moved = (now - then)[4:14].reshape(5, 2)
        found["box_pixels"] = float(np.abs(now - then)[:4].max())
        found["landmark_pixels"] = float(np.hypot(moved[:, 0], moved[:, 1]).max())
        found["confidence"] = float(now[14] - then[14])
    for stage in contract.FACE_NETWORKS:
        if stage.name in arrays:
            pairs = zip(*(_split(stage, each) for each in arrays[stage.name]), strict=True)
            for output, (then, now) in zip(_probed(stage), pairs, strict=True):
                found["moved"][output.name] = (
                    float(now[0] - then[0]) if output.is_number else _cosine_distance(then, now)
                )
    return found


def _split(stage: contract.Stage, values: Floats) -> Iterator[Floats]:
    """Split the values of a stage by output; it has one vector at most."""
    outputs = _probed(stage)
    length = len(values) - sum(output.is_number for output in outputs)
    sizes = [1 if output.is_number else length for output in outputs]
    yield from np.split(values, np.cumsum(sizes)[:-1])


def _cosine_distance(a: Floats, b: Floats) -> float:
    # kept values are rounded, so their length is not exactly 1
    return max(float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)), 0.0)


def _read_firsts(path: Path) -> dict[str, tuple[float, ...]]:
    try:
        return Report.model_validate_json(path.read_bytes()).firsts
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        log.warning("first answers cannot be read", extra={"path": str(path), "reason": str(error)})
        return {}


def _write_firsts(path: Path, firsts: dict[str, tuple[float, ...]]) -> None:
    kept = Report(at=time.time(), seconds=0, outcome="ok", firsts=firsts)
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(kept.model_dump_json())
        os.replace(part, path)
    except OSError as error:
        # they stay valid in this process; the next start takes its own first answer
        log.warning("first answers not kept", extra={"path": str(path), "reason": str(error)})

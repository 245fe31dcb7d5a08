"""Results of a trial so far: numbers for `aurum models status`, metrics for Prometheus."""

import math
from collections import Counter as Tally
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.rollout.compare import COMPARED, Difference
from gateway.rollout.plan import Plan

Role = Literal["active", "candidate"]
_SECONDS: Final = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_COSINES: Final[tuple[float, ...]] = (0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0)
_OVERLAPS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_DIFFERENCES: Final[tuple[float, ...]] = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_REMEMBERED: Final = 1000
"""Number of latest answers of each version that the percentiles are taken from."""


class TrialMetrics:
    """Metrics of trials; `version` is that of the stage on trial."""

    def __init__(self, registry: CollectorRegistry) -> None:
        sides = ["stage", "version", "role"]
        stage = ["stage", "version"]
        self.answers = Counter(
            "aurum_trial_answers",
            "Answers during a trial, by outcome: ok, or the code of the error.",
            [*sides, "outcome"],
            registry=registry,
        )
        self.seconds = Histogram(
            "aurum_trial_seconds",
            "Seconds that one image waited for the version.",
            sides,
            buckets=_SECONDS,
            registry=registry,
        )
        self.faces = Counter(
            "aurum_trial_faces", "Faces that the version found.", sides, registry=registry
        )
        self.images = Counter(
            "aurum_trial_images",
            "Images given to the other version, by outcome: compared, failed, skipped.",
            [*stage, "outcome"],
            registry=registry,
        )
        self.unmatched = Counter(
            "aurum_trial_unmatched_faces",
            "Faces that only one of the two versions found.",
            [*stage, "found_by"],
            registry=registry,
        )
        self.overlap = self._histogram(registry, "box_iou", "Overlap of boxes", _OVERLAPS)
        self.values: dict[str, Histogram] = {}
        """By name of the output that is compared."""
        self.lost: dict[str, Counter] = {}
        """By name of the number that is compared."""
        for _, output in COMPARED:
            name, plural = str(output.compared), _plural(output.name)
            if output.is_vector:
                text, buckets = f"Cosine of {plural}", _COSINES
            else:
                text, buckets = f"Absolute difference of {plural}", _DIFFERENCES
                self.lost[output.name] = Counter(
                    f"aurum_trial_{plural}_lost",
                    f"Faces that get {plural} from the active version and not from the candidate.",
                    stage,
                    registry=registry,
                )
            self.values[output.name] = self._histogram(registry, name, text, buckets)
        self.running = Gauge(
            "aurum_trial_share",
            "Share of requests that the candidate answers: 0 in the shadow, none without a trial.",
            [*stage, "mode", "state"],
            registry=registry,
        )

    @staticmethod
    def _histogram(
        registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(
            f"aurum_trial_{name}",
            f"{text} of one face by candidate and active version.",
            ["stage", "version"],
            buckets=buckets,
            registry=registry,
        )


@dataclass(slots=True)
class Side:
    """One of the two versions."""

    version: str | None = None
    answered: int = 0
    errors: Tally[str] = field(default_factory=Tally)
    faces: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def percentile_ms(self, percent: int) -> float | None:
        """Milliseconds within which so many of the last answers came; None without any."""
        return float(np.percentile(self.seconds, percent)) * 1000 if self.seconds else None


@dataclass(slots=True)
class Values:
    """One output of faces that both versions saw: cosines, or absolute differences.

    lost: faces for which only the active version gives it.
    """

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    lost: int = 0

    @property
    def mean(self) -> float | None:
        """The mean; None without any."""
        return self.total / self.count if self.count else None

    def add(self, values: Sequence[float], *, lost: int) -> None:
        """Count the faces of an image."""
        self.count += len(values)
        self.total += sum(values)
        self.least = min((self.least, *values))
        self.most = max((self.most, *values))
        self.lost += lost


@dataclass(slots=True)
class Compared:
    """Images that both versions saw. Sums are over matched faces."""

    images: int = 0
    skipped: int = 0
    failed: int = 0
    matched: int = 0
    only_active: int = 0
    only_candidate: int = 0
    overlap_sum: float = 0.0
    values: dict[str, Values] = field(
        default_factory=lambda: {output.name: Values() for _, output in COMPARED}
    )
    """By name of the output that is compared."""


class Report:
    """Counts of one trial in this process."""

    def __init__(self, plan: Plan, metrics: TrialMetrics) -> None:
        self.plan = plan
        self.active = Side()
        self.candidate = Side(version=str(plan.version))
        self.compared = Compared()
        self._metrics = metrics
        self._labels = (plan.stage, str(plan.version))

    def answered(self, role: Role, *, version: str | None, seconds: float, faces: int) -> None:
        """Count an answer."""
        side = self._side(role)
        side.version = version
        side.answered += 1
        side.faces += faces
        side.seconds.append(seconds)
        labels = (self.plan.stage, version or "", role)
        self._metrics.answers.labels(*labels, "ok").inc()
        self._metrics.seconds.labels(*labels).observe(seconds)
        self._metrics.faces.labels(*labels).inc(faces)

    def failed(self, role: Role, code: str) -> None:
        """Count an error."""
        side = self._side(role)
        side.errors[code] += 1
        self._metrics.answers.labels(self.plan.stage, side.version or "", role, code).inc()

    def skipped(self) -> None:
        """Count an image that one version did not see because it was busy."""
        self.compared.skipped += 1
        self._metrics.images.labels(*self._labels, "skipped").inc()

    def not_compared(self) -> None:
        """Count an image that the other version did not answer."""
        self.compared.failed += 1
        self._metrics.images.labels(*self._labels, "failed").inc()

    def differed(self, found: Difference) -> None:
        """Count an image that both saw."""
        total, metrics = self.compared, self._metrics
        total.images += 1
        total.matched += found.matched
        total.only_active += found.only_active
        total.only_candidate += found.only_candidate
        total.overlap_sum += sum(found.overlaps)
        metrics.images.labels(*self._labels, "compared").inc()
        metrics.unmatched.labels(*self._labels, "active").inc(found.only_active)
        metrics.unmatched.labels(*self._labels, "candidate").inc(found.only_candidate)
        for value in found.overlaps:
            metrics.overlap.labels(*self._labels).observe(value)
        for name, values in found.values.items():
            # distances, or cosines as they are
            shown = [abs(each) for each in values] if name in metrics.lost else values
            for value in shown:
                metrics.values[name].labels(*self._labels).observe(value)
            lost = found.lost.get(name, 0)
            if name in metrics.lost:
                metrics.lost[name].labels(*self._labels).inc(lost)
            total.values[name].add(shown, lost=lost)

    def _side(self, role: Role) -> Side:
        return self.active if role == "active" else self.candidate


def _plural(name: str) -> str:
    return name if name.endswith("s") else f"{name}s"

"""What a trial has shown so far: for `aurum models status` in numbers, for Prometheus."""

from collections import Counter as Tally
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.rollout.compare import Difference
from gateway.rollout.plan import Plan

Role = Literal["active", "candidate"]
_SECONDS: Final = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_COSINES: Final = (0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0)
_OVERLAPS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_SCORES: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_REMEMBERED: Final = 1000
"""Answers of each version whose times the percentiles are taken from."""


class TrialMetrics:
    """What Prometheus sees of trials; `version` is that of the stage being tried."""

    def __init__(self, registry: CollectorRegistry) -> None:
        sides = ["stage", "version", "role"]
        stage = ["stage", "version"]
        self.answers = Counter(
            "aurum_trial_answers",
            "Answers while a version is tried, by outcome: ok, or the code of the error.",
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
            "Images for the other version: compared, failed there, skipped while it was busy.",
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
        self.cosine = self._histogram(registry, "cosine", "Cosine of embeddings", _COSINES)
        self.score = self._histogram(
            registry, "score_difference", "Absolute difference of scores", _SCORES
        )
        self.scores_lost = Counter(
            "aurum_trial_scores_lost",
            "Faces that the version in service rates and the candidate does not.",
            stage,
            registry=registry,
        )
        self.running = Gauge(
            "aurum_trial_share",
            "Share of requests that the candidate answers, 0 in the shadow; gone with the trial.",
            [*stage, "mode", "state"],
            registry=registry,
        )

    @staticmethod
    def _histogram(
        registry: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(
            f"aurum_trial_{name}",
            f"{text} of one face by candidate and version in service.",
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
class Compared:
    """Images that both versions saw. Sums are over matched faces."""

    images: int = 0
    skipped: int = 0
    failed: int = 0
    matched: int = 0
    only_active: int = 0
    only_candidate: int = 0
    overlap_sum: float = 0.0
    cosines: int = 0
    cosine_sum: float = 0.0
    cosine_min: float = 1.0
    scores: int = 0
    score_sum: float = 0.0
    """Of absolute differences."""
    score_max: float = 0.0
    scores_lost: int = 0


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
        """Count an image that only one version saw, as the other was busy."""
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
        total.cosines += len(found.cosines)
        total.cosine_sum += sum(found.cosines)
        total.cosine_min = min((total.cosine_min, *found.cosines))
        distances = [abs(each) for each in found.score_differences]
        total.scores += len(distances)
        total.score_sum += sum(distances)
        total.score_max = max((total.score_max, *distances))
        total.scores_lost += found.scores_lost
        metrics.images.labels(*self._labels, "compared").inc()
        metrics.unmatched.labels(*self._labels, "active").inc(found.only_active)
        metrics.unmatched.labels(*self._labels, "candidate").inc(found.only_candidate)
        metrics.scores_lost.labels(*self._labels).inc(found.scores_lost)
        for histogram, values in (
            (metrics.overlap, found.overlaps),
            (metrics.cosine, found.cosines),
            (metrics.score, distances),
        ):
            for value in values:
                histogram.labels(*self._labels).observe(value)

    def _side(self, role: Role) -> Side:
        return self.active if role == "active" else self.candidate

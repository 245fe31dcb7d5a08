"""Drift detection: recent faces against those that the active weights were measured on.

An embedding has length 1 by construction; its measure is the cosine to the mean direction of the
reference's faces. That direction is fixed (a running mean would follow the drift that it should
show), and gives one number for any dimension. Faces that are cut wrongly, blurred or in wrong
colours move towards or away from the mean face together.
"""

import logging
import math
from collections import OrderedDict, deque
from typing import Final

import numpy as np

from gateway.registry.measures import measure_face
from gateway.registry.reference import Histogram, Reference, References, psi
from gateway.telemetry.metrics import DriftMetrics
from gateway.types import Analysis, Weights
from triton_python_backend.contract import ONNX_STAGES

log = logging.getLogger(__name__)

_CALM: Final = 0.8
"""Share of the threshold below which an alarm ends, so that values near it do not fill the log."""
_MOST_WINDOWS: Final = 2 * len(ONNX_STAGES)
"""Weights followed at a time: of each stage the active ones, and those of a swap."""


class Distributions:
    """Follows the last faces of all active weights and exports how far they have moved."""

    def __init__(
        self,
        references: References,
        metrics: DriftMetrics,
        *,
        window_faces: int,
        min_faces: int,
        alert: float,
    ) -> None:
        self._references = references
        self._metrics = metrics
        self._window_faces = window_faces
        self._min_faces = min_faces
        self._alert = alert
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()
        metrics.alert.set(alert)

    def observe(self, analysis: Analysis) -> None:
        """Count the faces of a computed answer."""
        for stage in ONNX_STAGES:
            weights = analysis.weights.get(stage.name)
            if weights is None or not analysis.faces:
                continue
            window = self._window(stage.name, weights)
            if window is None:
                continue
            for face in analysis.faces:
                for measure, value in measure_face(stage, face, window.mean):
                    window.add(measure, value)
            self._export(stage.name, weights.id, window)

    def _window(self, stage: str, weights: Weights) -> "_Window | None":
        key = (stage, weights.id)
        reference = self._references.of(*key)
        if reference is None:
            self._forget(key)
            return None
        window = self._windows.get(key)
        if window is None or not window.is_against(reference):
            window = self._windows[key] = _Window(reference, self._window_faces)
        self._windows.move_to_end(key)
        while len(self._windows) > _MOST_WINDOWS:
            self._forget(next(iter(self._windows)))
        return window

    def _forget(self, key: tuple[str, str]) -> None:
        window = self._windows.pop(key, None)
        if window is not None:
            self._metrics.forget(*key, measures=window.measures)

    def _export(self, stage: str, identifier: str, window: "_Window") -> None:
        for measure, recent in window.measures.items():
            self._metrics.faces.labels(stage, measure, identifier).set(recent.faces)
            if recent.faces < self._min_faces:
                continue
            found = recent.psi()
            self._metrics.psi.labels(stage, measure, identifier).set(found)
            limit = _CALM * self._alert if recent.alarmed else self._alert
            if (found > limit) != recent.alarmed:
                recent.alarmed = not recent.alarmed
                event = "faces drifted" if recent.alarmed else "faces are as they were"
                fields = {"stage": stage, "measure": measure, "id": identifier, "psi": found}
                log.warning(event, extra=fields)


class _Recent:
    """The bins of the last values of one measure."""

    def __init__(self, histogram: Histogram, size: int) -> None:
        self._histogram = histogram
        self._bins: deque[int] = deque(maxlen=size)
        self._counts = [0] * len(histogram.shares)
        self.alarmed = False

    @property
    def faces(self) -> int:
        return len(self._bins)

    def add(self, value: float) -> None:
        if len(self._bins) == self._bins.maxlen:
            self._counts[self._bins[0]] -= 1
        found = self._histogram.bin(value)
        self._bins.append(found)
        self._counts[found] += 1

    def psi(self) -> float:
        return psi(self._counts, self._histogram.shares)


class _Window:
    """The last faces of one version."""

    def __init__(self, reference: Reference, size: int) -> None:
        self.reference = reference
        mean = reference.mean
        self.mean = None if mean is None else np.asarray(mean, np.float32)
        self.measures = {
            name: _Recent(histogram, size) for name, histogram in reference.measures.items()
        }

    def is_against(self, reference: Reference) -> bool:
        """Whether it is the reference of this window, possibly read from its file again."""
        if self.reference is not reference and self.reference == reference:
            self.reference = reference
        return self.reference is reference

    def add(self, measure: str, value: float) -> None:
        recent = self.measures.get(measure)
        # NaN: a head of another space
        if recent is not None and math.isfinite(value):
            recent.add(value)

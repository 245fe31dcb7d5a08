"""Measured values with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def pearson(predicted: Values, actual: Values) -> float:
    """Linear correlation of [N] and [N]."""
    return float(np.corrcoef(predicted, actual)[0, 1])


def mean_absolute_error(predicted: Values, actual: Values) -> float:
    """Mean absolute difference of [N] and [N]."""
    return float(np.abs(predicted - actual).mean())


def root_mean_square_error(predicted: Values, actual: Values) -> float:
    """Root of the mean squared difference of [N] and [N]."""
    return float(np.sqrt(np.square(predicted - actual).mean()))


MEASURES: dict[str, Callable[[Values, Values], float]] = {
    "pearson": pearson,
    "mae": mean_absolute_error,
    "rmse": root_mean_square_error,
}


def with_interval(
    measure: Callable[[Values, Values], float],
    predicted: Values,
    actual: Values,
    *,
    seed: int = 0,
    rounds: int = 2000,
) -> dict[str, float]:
    """The measure with its 95 % percentile-bootstrap interval over the rows."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(rounds):
        rows = rng.integers(0, len(actual), len(actual))
        drawn.append(measure(predicted[rows], actual[rows]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": measure(predicted, actual), "low": float(low), "high": float(high)}


def regression_report(
    predicted: Values,
    actual: Values,
    groups: Sequence[tuple[str, NDArray[np.bool_]]],
    *,
    seed: int = 0,
) -> dict[str, dict[str, object]]:
    """All measures overall and per group: name -> n, mean error and measures with intervals."""
    report: dict[str, dict[str, object]] = {}
    for name, rows in (("all", np.ones(len(actual), bool)), *groups):
        entry: dict[str, object] = {
            "n": int(rows.sum()),
            "mean_error": float((predicted[rows] - actual[rows]).mean()),
        }
        for label, measure in MEASURES.items():
            entry[label] = with_interval(measure, predicted[rows], actual[rows], seed=seed)
        report[name] = entry
    return report

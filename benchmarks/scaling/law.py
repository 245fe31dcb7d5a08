"""The Universal Scalability Law (N. Gunther, 1993): what each further replica adds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls


@dataclass(frozen=True, slots=True)
class Law:
    """Answers a second of n replicas: one * n / (1 + contention (n-1) + crosstalk n (n-1)).

    With a crosstalk of 0 it is Amdahl's law. worst: the largest deviation of the points, relative.
    """

    one: float
    contention: float
    crosstalk: float
    worst: float = 0.0

    def at(self, replicas: float) -> float:
        """Return answers a second."""
        waits = self.contention * (replicas - 1) + self.crosstalk * replicas * (replicas - 1)
        return self.one * replicas / (1 + waits)


def fit(replicas: Sequence[int], rates: Sequence[float]) -> Law:
    """Fit the law by least squares of relative deviations; nothing in it is negative.

    n / rate is linear in 1, n - 1 and n (n - 1). Raises ValueError for fewer than three points.
    """
    if len(replicas) < 3:
        raise ValueError("three points at least")
    n, x = np.asarray(replicas, float), np.asarray(rates, float)
    cost = n / x
    terms = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1)
    (first, second, third), _ = nnls(terms / cost[:, None], np.ones_like(n))
    law = Law(1 / first, second / first, third / first)
    worst = max(abs(law.at(float(each)) / rate - 1) for each, rate in zip(n, x, strict=True))
    return Law(law.one, law.contention, law.crosstalk, float(worst))

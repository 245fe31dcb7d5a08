"""Verification accuracy from similarities of pairs."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

OTHER_PERSON = 0.5
"""Similarity below which two faces without a label count as two persons."""


def accuracy_at_best(same: Floats, other: Floats) -> tuple[float, float]:
    """Best accuracy of one threshold over as many pairs of each kind, and that threshold."""
    scores = np.concatenate([same, other])
    truth = np.concatenate([np.ones(len(same)), np.zeros(len(other))])
    order = np.argsort(-scores)
    found = np.cumsum(truth[order]) / len(same)
    wrong = np.cumsum(1 - truth[order]) / len(other)
    accuracy = (found + 1 - wrong) / 2
    best = int(np.argmax(accuracy))
    return float(accuracy[best]), float(scores[order][best])

from dataclasses import replace

import pytest

from gateway.errors import InvalidRequestError
from gateway.records.types import CollectionRecord, CollectionSettings
from gateway.thresholds import Thresholds

SPACE = "00000000000000a1"


class Measured:
    """Stands in for the calibrations: each space by its threshold at each rate."""

    def threshold(self, space: str, *, target_fmr: float | None, otherwise: float) -> float:
        assert space == SPACE
        return {None: 0.4, 1e-4: 0.5}[target_fmr]


THRESHOLDS = Thresholds(Measured(), default=0.3)
EMPTY = CollectionRecord("1", "t", "c", "active", CollectionSettings(), None, None, None, 0.0, 0.0)
BOUND = replace(EMPTY, space=SPACE)
OWN = replace(BOUND, settings=CollectionSettings(match_threshold=0.7))


@pytest.mark.parametrize(
    ("collection", "target_fmr", "threshold"),
    [
        (EMPTY, None, 0.3),
        (BOUND, None, 0.4),
        (BOUND, 1e-4, 0.5),
        (OWN, None, 0.7),
        (OWN, 1e-4, 0.5),
    ],
)
def test_a_wanted_rate_counts_before_the_collections_own_and_the_calibrations(
    collection, target_fmr, threshold
):
    assert THRESHOLDS.of_collection(collection, target_fmr=target_fmr) == threshold


def test_a_rate_cannot_be_had_without_a_space():
    with pytest.raises(InvalidRequestError, match="without faces"):
        THRESHOLDS.of_collection(EMPTY, target_fmr=1e-4)

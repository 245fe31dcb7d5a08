"""Error rates at each threshold, from similarities of labelled pairs."""

from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.registry.calibration import Rate

Floats = npt.NDArray[np.float64]
_MOST: Final = 400


def measure_rates(same: Floats, different: Floats) -> tuple[Rate, ...]:
    """Rates at the thresholds at which they change.

    A pair matches at `similarity >= threshold`. Between two neighbouring similarities of different
    people nothing changes in the FMR, so thresholds lie just above one of them each.

    Args:
        same: [N] cosines of pairs of one person.
        different: [M] cosines of pairs of different people.

    Returns:
        At most 400 rates, ascending thresholds; the last has an FMR of 0.
    """
    steps = np.nextafter(np.unique(different), 2)
    thresholds = np.unique(np.clip(np.concatenate([[-1.0], steps]), -1, 1))
    if len(thresholds) > _MOST:
        # dense where it matters: few matches of different people
        ranks = np.unique(np.geomspace(1, len(thresholds), _MOST).astype(int))
        thresholds = thresholds[np.sort(len(thresholds) - ranks)]
    ordered, ours = np.sort(different), np.sort(same)
    # a difference of counts, so that 2 of 2000 is not a little more than 0.001
    fmr = (len(ordered) - np.searchsorted(ordered, thresholds, side="left")) / len(ordered)
    fnmr = np.searchsorted(ours, thresholds, side="left") / len(ours)
    return tuple(
        Rate(threshold=float(t), fmr=float(m), fnmr=float(n))
        for t, m, n in zip(thresholds, fmr, fnmr, strict=True)
    )

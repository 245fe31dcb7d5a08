"""The two parts of the held-out pictures.

Selecting the best of several networks by its figures makes these figures too good. So one part of
the held-out pictures serves for selection, the other for the final figures.
"""

from enum import StrEnum

import numpy as np
import numpy.typing as npt

PARTED = (1, 3, 7, 9)  # of every ten photos of a source, those for the final figures


class Split(StrEnum):
    """Which held-out pictures to measure on."""

    CHOICE = "choice"
    LAST_WORD = "last-word"

    @property
    def composed_seed(self) -> int:
        """The seed of the composed scenes."""
        return 20_000 if self is Split.CHOICE else 40_000

    def of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return those of a source's held-out rows that belong to this part."""
        last = np.isin(np.arange(len(rows)) % 10, PARTED)
        return rows[last if self is Split.LAST_WORD else ~last]

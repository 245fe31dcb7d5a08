"""From which cosine similarity two faces count as the same person."""

from gateway.errors import InvalidRequestError
from gateway.records.types import CollectionRecord
from gateway.registry.calibration import Calibrations


class Thresholds:
    """Chooses thresholds: by a target rate, by the calibration of a space, or the default."""

    def __init__(self, calibrations: Calibrations, *, default: float) -> None:
        """Use `default` where nothing was measured."""
        self._calibrations = calibrations
        self._default = default

    def of_space(self, space: str | None, *, target_fmr: float | None = None) -> float:
        """Choose the threshold of an embedding space.

        Args:
            space: its id; None if it is not known.
            target_fmr: the wanted rate of false matches; None: the calibration's default rate, or
                the default threshold if the space has no calibration.

        Raises:
            InvalidRequestError: `target_fmr` is wanted, and the space is unknown, not calibrated,
                or not measured well enough.

        """
        if space is None:
            if target_fmr is not None:
                message = "target_fmr needs a calibration; a collection without faces has none"
                raise InvalidRequestError(message)
            return self._default
        return self._calibrations.threshold(space, target_fmr=target_fmr, otherwise=self._default)

    def of_collection(
        self, collection: CollectionRecord, *, target_fmr: float | None = None
    ) -> float:
        """Choose the threshold of a collection: its own, unless a rate is wanted; as `of_space`."""
        own = collection.settings.match_threshold
        if target_fmr is None and own is not None:
            return own
        return self.of_space(collection.space, target_fmr=target_fmr)

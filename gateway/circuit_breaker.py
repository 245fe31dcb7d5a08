"""Whether something that failed shall be asked again."""

from typing import Final

_FAILURES: Final = 3


class Breaker:
    """Opens after a few failures in a row; only `succeeded` closes it.

    Whoever owns it keeps trying in the background, so that no request pays for the attempt.
    """

    def __init__(self, failures: int = _FAILURES) -> None:
        self._allowed = failures
        self._failures = 0

    @property
    def is_open(self) -> bool:
        """Whether asking is pointless now."""
        return self._failures >= self._allowed

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures = 0

    def failed(self) -> None:
        """Note a failure."""
        self._failures += 1

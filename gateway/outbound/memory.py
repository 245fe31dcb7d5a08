"""What is received and not yet passed on counts against one bound of the process."""

from typing import Protocol


class Budget(Protocol):
    """Bounds the bytes that all requests are receiving."""

    def hold(self, size: int) -> None:
        """Count bytes; raises InferenceUnavailableError beyond the bound."""
        ...

    def release(self, size: int) -> None:
        """Count bytes that are no longer in memory."""
        ...


class Held:
    """The bytes of one download; release them when they are passed on or dropped."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def add(self, size: int) -> None:
        """Count bytes that arrive; raises as `Budget.hold`."""
        self._budget.hold(size)
        self._size += size

    def release(self) -> None:
        """Give all of them back; doing so twice is harmless."""
        size, self._size = self._size, 0
        self._budget.release(size)

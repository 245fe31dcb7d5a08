"""What admits the calls of a caller, before a message of theirs is received."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from gateway.types import Caller, Counted


class Admission(Protocol):
    """A call that was admitted."""

    async def charge_pixels(self, pixels: int) -> None:
        """Count the pixels of images whose headers are known; never refuses."""
        ...


class Limiter(Protocol):
    """Counts what callers ask for."""

    def admit(
        self, caller: Caller, *, with_images: bool = False, counted: Counted = "all"
    ) -> AbstractAsyncContextManager[Admission]:
        """Count a call, as `Counted` says, and hold it until the end of the block.

        Raises RateLimitedError, before the block, if a limit of the caller is exceeded.
        """
        ...


class NoLimits:
    """`Limiter` that admits everything."""

    @asynccontextmanager
    async def admit(
        self, caller: Caller, *, with_images: bool = False, counted: Counted = "all"
    ) -> AsyncIterator[Admission]:
        """See `Limiter.admit`."""
        del caller, with_images, counted
        yield _Free()


class _Free:
    async def charge_pixels(self, pixels: int) -> None:
        """See `Admission.charge_pixels`."""

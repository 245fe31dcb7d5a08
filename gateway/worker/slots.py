"""Slots for images that are being answered; their number changes while they are in use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """A semaphore whose limit can be changed; holders of slots beyond a new limit keep them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = asyncio.Event()

    @property
    def limit(self) -> int:
        """Number of slots."""
        return self._limit

    @property
    def taken(self) -> int:
        """Number of slots in use."""
        return self._taken

    def resize(self, limit: int) -> None:
        """Change the number of slots, at least 1."""
        self._limit = max(1, limit)
        self._changed.set()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold a slot during the block; waits for one."""
        while self._taken >= self._limit:
            self._changed.clear()
            await self._changed.wait()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._changed.set()

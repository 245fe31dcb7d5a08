"""Limits how much is done at a time, for all together and for each."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSlots:
    """So many at a time in all, so many for each key: one does not hold up the others."""

    def __init__(self, *, total: int, each: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._each = each
        self._of_key: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it until the end of the block."""
        own = self._of_key.setdefault(key, asyncio.Semaphore(self._each))
        self._users[key] += 1
        try:
            # its own first: who waits for others of its own takes no slot of the others
            async with own, self._total:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._of_key[key]

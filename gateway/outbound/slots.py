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
        await self.acquire(key)
        try:
            yield
        finally:
            self.release(key)

    async def acquire(self, key: str) -> None:
        """Wait for a slot; whoever gets it calls `release` once."""
        own = self._of_key.setdefault(key, asyncio.Semaphore(self._each))
        self._users[key] += 1
        try:
            # its own first: who waits for others of its own takes no slot of the others
            await own.acquire()
            try:
                await self._total.acquire()
            except BaseException:
                own.release()
                raise
        except BaseException:
            self._forget_user(key)
            raise

    def release(self, key: str) -> None:
        """Give a slot back."""
        self._total.release()
        self._of_key[key].release()
        self._forget_user(key)

    def _forget_user(self, key: str) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key], self._of_key[key]

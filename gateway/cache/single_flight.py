"""Identical work in flight is done once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.concurrency import BackgroundTasks

T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiters: int = 0


class SingleFlight(Generic[T]):
    """Work under way, by key. Errors are shared like results; nothing outlives its flight."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}
        self._tasks = BackgroundTasks()

    def __len__(self) -> int:
        return len(self._flights)

    def has(self, key: Hashable) -> bool:
        """Whether that work is under way."""
        return key in self._flights

    async def share(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Join the work of this key or start it.

        A waiter that is cancelled leaves; the work is cancelled with its last waiter.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(self._tasks.detach("single-flight", start()))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        flight.waiters += 1
        try:
            await asyncio.wait({flight.task})
            return flight.task.result()
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()

    async def close(self) -> None:
        """Cancel all work under way."""
        await self._tasks.close()

    def _land(self, key: Hashable, flight: _Flight[T] | None) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

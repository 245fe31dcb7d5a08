"""The first layer: least recently used answers of this process, bounded by bytes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import TLRUCache

_SHELF_BYTES: Final = 500
"""What a shelf takes beside its values, and a value beside its bytes: measured with `sys`."""
_VALUE_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class _Shelf:
    expires_at: float
    values: Mapping[str, bytes]

    @property
    def size_bytes(self) -> int:
        return _SHELF_BYTES + sum(
            _VALUE_BYTES + len(field) + len(value) for field, value in self.values.items()
        )


class _Shelves(TLRUCache[str, _Shelf]):
    """Shelves by image; tells of each that had to go to make room."""

    def __init__(
        self, max_bytes: int, clock: Callable[[], float], on_eviction: Callable[[], None]
    ) -> None:
        super().__init__(
            max_bytes,
            ttu=lambda _image, shelf, _now: shelf.expires_at,
            timer=clock,
            getsizeof=lambda shelf: shelf.size_bytes,
        )
        self._on_eviction = on_eviction

    def popitem(self) -> tuple[str, _Shelf]:
        """Drop the least recently used one."""
        item = super().popitem()
        self._on_eviction()
        return item


class MemoryCache:
    """`Cache` within the process; never fails."""

    def __init__(
        self,
        *,
        max_bytes: int,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        on_eviction: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._shelves = _Shelves(max_bytes, clock, on_eviction)

    @property
    def size_bytes(self) -> int:
        """What is held now."""
        return int(self._shelves.currsize)

    async def get(self, image: str, fields: Sequence[str]) -> Mapping[str, bytes]:
        """See `Cache.get`."""
        shelf = self._shelves.get(image)
        if shelf is None:
            return {}
        return {field: shelf.values[field] for field in fields if field in shelf.values}

    async def set(self, image: str, field: str, value: bytes) -> None:
        """See `Cache.set`."""
        old = self._shelves.get(image)
        if old is None:
            shelf = _Shelf(self._clock() + self._ttl_seconds, {field: value})
        else:
            shelf = _Shelf(old.expires_at, {**old.values, field: value})
        if shelf.size_bytes <= self._shelves.maxsize:
            self._shelves[image] = shelf

    async def forget(self, image: str) -> int:
        """See `Cache.forget`."""
        shelf = self._shelves.pop(image, None)
        return 0 if shelf is None else len(shelf.values)

    async def health(self) -> str | None:
        """See `Cache.health`."""
        return None

    async def close(self) -> None:
        """See `Cache.close`."""
        self._shelves.clear()

"""The first layer: least recently used answers of this process, bounded by bytes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import TLRUCache

_ENTRY_BYTES: Final = 500
"""Memory of an entry beyond its values, and of a value beyond its bytes, measured with `sys`."""
_VALUE_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class _Entry:
    expires_at: float
    values: Mapping[str, bytes]

    @property
    def size_bytes(self) -> int:
        return _ENTRY_BYTES + sum(
            _VALUE_BYTES + len(field) + len(value) for field, value in self.values.items()
        )


class _Entries(TLRUCache[str, _Entry]):
    """Entries by image; calls `on_eviction` for each that made room."""

    def __init__(
        self, max_bytes: int, clock: Callable[[], float], on_eviction: Callable[[], None]
    ) -> None:
        super().__init__(
            max_bytes,
            ttu=lambda _image, entry, _now: entry.expires_at,
            timer=clock,
            getsizeof=lambda entry: entry.size_bytes,
        )
        self._on_eviction = on_eviction

    def popitem(self) -> tuple[str, _Entry]:
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
        self._entries = _Entries(max_bytes, clock, on_eviction)

    @property
    def size_bytes(self) -> int:
        """Bytes held now."""
        return int(self._entries.currsize)

    async def get(self, image: str, fields: Sequence[str]) -> Mapping[str, bytes]:
        """See `Cache.get`."""
        entry = self._entries.get(image)
        if entry is None:
            return {}
        return {field: entry.values[field] for field in fields if field in entry.values}

    async def set(self, image: str, field: str, value: bytes) -> None:
        """See `Cache.set`."""
        old = self._entries.get(image)
        if old is None:
            entry = _Entry(self._clock() + self._ttl_seconds, {field: value})
        else:
            entry = _Entry(old.expires_at, {**old.values, field: value})
        if entry.size_bytes <= self._entries.maxsize:
            self._entries[image] = entry

    async def forget(self, image: str) -> int:
        """See `Cache.forget`."""
        entry = self._entries.pop(image, None)
        return 0 if entry is None else len(entry.values)

    async def health(self) -> str | None:
        """See `Cache.health`."""
        return None

    async def close(self) -> None:
        """See `Cache.close`."""
        self._entries.clear()

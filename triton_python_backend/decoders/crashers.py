"""Remembers images that crashed a decoder, so that sending them again costs nothing."""

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Final

_KEPT_SECONDS: Final = 600.0
_MOST: Final = 1000


class Crashers:
    """Digests of such images, for ten minutes each; may be shared by threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[bytes, float] = {}
        """When each digest is forgotten, oldest first."""
        self._sizes: frozenset[int] = frozenset()
        """Sizes of these images: an image of another size costs no digest."""
        self._size_of: dict[bytes, int] = {}

    def add(self, data: bytes) -> None:
        """Remember an image; of too many the oldest is forgotten."""
        digest = _digest(data)
        with self._lock:
            self._until.pop(digest, None)
            self._until[digest] = self._clock() + _KEPT_SECONDS
            self._size_of[digest] = len(data)
            if len(self._until) > _MOST:
                self._forget(next(iter(self._until)))
            self._sizes = frozenset(self._size_of.values())

    def holds(self, data: bytes) -> bool:
        """Whether this very image crashed a decoder in the last ten minutes."""
        if len(data) not in self._sizes:
            return False
        digest = _digest(data)
        with self._lock:
            until = self._until.get(digest)
            if until is None:
                return False
            if until > self._clock():
                return True
            self._forget(digest)
            self._sizes = frozenset(self._size_of.values())
            return False

    def _forget(self, digest: bytes) -> None:
        del self._until[digest]
        del self._size_of[digest]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
